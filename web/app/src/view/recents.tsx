import type { CallRecord } from 'visavis'
import type { Person } from '../model/person.ts'
import { locale, t } from '../strings/pick.ts'
import { outcome } from '../strings/sentences.ts'
import { length, when } from '../times.ts'
import { Avatar } from './avatar.tsx'
import { IncomingIcon, OutgoingIcon, RecentsIcon, VideoIcon, VoiceIcon } from './icons.tsx'
import { Rows } from './rows.tsx'
import { Words } from './words.tsx'

interface Props {
  /** Newest first; undefined until they were fetched. */
  recents: readonly CallRecord[] | undefined
  /** They could not be fetched. */
  lost: boolean
  /** Some calls are not among them yet. */
  incomplete: boolean
  /** The time by the clock that they are dated by. */
  now: Date
  disconnected: boolean
  onRetry: () => void
  onChoose: (person: Person) => void
  onRing: (person: Person, video: boolean) => void
}

export function Recents({ recents, lost, incomplete, onRetry, ...row }: Props) {
  return (
    <>
      <header class="list-head">
        <h1 class="title" data-focus tabIndex={-1}>
          {t.home.recents}
        </h1>
      </header>
      <div class="list-body">
        {lost && (
          <div class="list-none">
            <p>{t.home.recentsLost}</p>
            <button class="button" type="button" onClick={onRetry}>
              {t.home.tryAgain}
            </button>
          </div>
        )}
        {incomplete && <p class="list-note">{t.home.recentsIncomplete}</p>}
        {recents?.length === 0 && !incomplete && (
          <div class="list-none list-none-drawn">
            <RecentsIcon />
            <h2>{t.home.noRecents}</h2>
            <p>{t.home.noRecentsHint}</p>
          </div>
        )}
        <Rows items={recents ?? []}>
          {(record) => <RecordRow key={record.id} record={record} {...row} />}
        </Rows>
      </div>
    </>
  )
}

interface RowProps extends Pick<Props, 'now' | 'disconnected' | 'onChoose' | 'onRing'> {
  record: CallRecord
}

function RecordRow({ record, now, disconnected, onChoose, onRing }: RowProps) {
  const { peer, video } = record
  return (
    <li class="row">
      <button class="row-main" type="button" onClick={() => onChoose(peer)}>
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
            <RecordLine record={record} now={now} />
          </span>
        </span>
      </button>
      <button
        class="round round-soft"
        type="button"
        aria-label={video ? t.home.callAgain(peer.name) : t.home.voiceAgain(peer.name)}
        disabled={disconnected}
        onClick={() => onRing(peer, video)}
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
