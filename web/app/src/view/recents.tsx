import type { CallRecord } from 'visavis'
import type { App } from '../model/app.ts'
import { locale, t } from '../strings/pick.ts'
import { outcome } from '../strings/sentences.ts'
import { length, when } from '../times.ts'
import { Avatar } from './avatar.tsx'
import { IncomingIcon, OutgoingIcon, RecentsIcon, VideoIcon, VoiceIcon } from './icons.tsx'
import { Rows } from './rows.tsx'
import { Words } from './words.tsx'

export function Recents({ app }: { app: App }) {
  const { home } = app
  const recents = home.recents.value
  return (
    <>
      <header class="list-head">
        <h1 class="title" data-focus tabIndex={-1}>
          {t.home.recents}
        </h1>
      </header>
      <div class="list-body">
        {home.recentsLost.value && (
          <div class="list-none">
            <p>{t.home.recentsLost}</p>
            <button class="button" type="button" onClick={() => void home.fetchRecents()}>
              {t.home.tryAgain}
            </button>
          </div>
        )}
        {home.recentsIncomplete.value && <p class="list-note">{t.home.recentsIncomplete}</p>}
        {recents?.length === 0 && !home.recentsIncomplete.value && (
          <div class="list-none list-none-drawn">
            <RecentsIcon />
            <h2>{t.home.noRecents}</h2>
            <p>{t.home.noRecentsHint}</p>
          </div>
        )}
        <Rows items={recents ?? []}>
          {(record) => <RecordRow key={record.id} app={app} record={record} />}
        </Rows>
      </div>
    </>
  )
}

function RecordRow({ app, record }: { app: App; record: CallRecord }) {
  const { home } = app
  const { peer, video } = record
  return (
    <li class="row">
      <button
        class="row-main"
        type="button"
        onClick={() => {
          home.chosen.value = peer
        }}
      >
        <Avatar person={peer} size="small" />
        <span class="row-words">
          <span
            class="row-name name"
            dir="auto"
            translate={false}
            data-missed={record.missed && record.direction === 'in'}
          >
            {peer.name}
          </span>
          <span class="row-more">
            <RecordLine record={record} now={home.now()} />
          </span>
        </span>
      </button>
      <button
        class="round round-soft"
        type="button"
        aria-label={video ? t.home.callAgain(peer.name) : t.home.voiceAgain(peer.name)}
        disabled={app.disconnected.value}
        onClick={() => app.ring(peer, video)}
      >
        {video ? <VideoIcon /> : <VoiceIcon />}
      </button>
    </li>
  )
}

/** Which way a call went, what became of it, and when. */
export function RecordLine({ record, now }: { record: CallRecord; now: Date }) {
  const { direction, missed, acceptedAt, durationMs, rungAt } = record
  return (
    <span class="record" data-missed={missed && direction === 'in'}>
      <span class="record-way" data-way={direction}>
        {direction === 'in' ? <IncomingIcon /> : <OutgoingIcon />}
      </span>
      <span class="unseen">{direction === 'in' ? t.home.incoming : t.home.outgoing}, </span>
      <span class="record-what">
        <Words>{acceptedAt ? length(durationMs / 1000, locale) : outcome(record, t)}</Words>
      </span>
      <time class="record-when" dateTime={rungAt.toISOString()}>
        <Words>{when(rungAt, now, locale)}</Words>
      </time>
    </span>
  )
}
