import type { User } from 'visavis'
import type { Person } from '../model/person.ts'
import { t } from '../strings/pick.ts'
import { Avatar } from './avatar.tsx'
import { CopyLink } from './copy.tsx'
import { CloseIcon, EmptyDrawing, SearchIcon, ShareIcon, VideoIcon, VoiceIcon } from './icons.tsx'
import { Rows } from './rows.tsx'
import { Words } from './words.tsx'
import './people.css'

interface Props {
  place: string
  /** Everybody who can be called, and those of them that the query finds. */
  people: readonly User[]
  found: readonly User[]
  query: string
  /** The person who is shown large. */
  shown: User | undefined
  disconnected: boolean
  onQuery: (query: string) => void
  onChoose: (person: Person) => void
  onRing: (person: Person, video: boolean) => void
}

export function People(props: Props) {
  const { place, people, found, query, shown, disconnected, onQuery, onChoose, onRing } = props
  return (
    <>
      <header class="list-head">
        <h1 class="title" data-focus tabIndex={-1}>
          {t.home.people}
        </h1>
        <div class="search">
          <SearchIcon />
          <input
            class="field search-field"
            type="search"
            aria-label={t.home.search}
            placeholder={t.home.search}
            autocomplete="off"
            value={query}
            onInput={(event) => onQuery(event.currentTarget.value)}
          />
          {query !== '' && (
            <button
              class="round search-clear"
              type="button"
              aria-label={t.home.clear}
              onClick={() => onQuery('')}
            >
              <CloseIcon />
            </button>
          )}
        </div>
      </header>
      <p class="unseen" role="status">
        <Words>{query.trim() !== '' && found.length > 0 ? t.home.found(found.length) : ''}</Words>
      </p>
      <div class="list-body">
        {people.length === 0 ? (
          <Nobody place={place} />
        ) : found.length === 0 ? (
          <p class="list-none" role="status">
            <Words>{t.home.notFound(query.trim())}</Words>
          </p>
        ) : (
          <Rows items={found}>
            {(user) => (
              <PersonRow
                key={user.id}
                user={user}
                shown={shown?.id === user.id}
                disconnected={disconnected}
                onChoose={onChoose}
                onRing={onRing}
              />
            )}
          </Rows>
        )}
      </div>
    </>
  )
}

interface RowProps extends Pick<Props, 'disconnected' | 'onChoose' | 'onRing'> {
  user: User
  shown: boolean
}

function PersonRow({ user, shown, disconnected, onChoose, onRing }: RowProps) {
  return (
    <li class="row" data-shown={shown}>
      <button class="row-main" type="button" onClick={() => onChoose(user)}>
        <span class="row-avatar">
          <Avatar person={user} size="small" />
          <span class="dot" data-presence={user.presence} />
        </span>
        <span class="row-words">
          <span class="row-name name" dir="auto" translate={false}>
            {user.name}
          </span>
          <span class="row-more">
            <Words>{t.home[user.presence]}</Words>
          </span>
        </span>
      </button>
      <button
        class="round round-soft row-voice"
        type="button"
        aria-label={t.home.voicePerson(user.name)}
        disabled={disconnected}
        onClick={() => onRing(user, false)}
      >
        <VoiceIcon />
      </button>
      <button
        class="round round-soft"
        type="button"
        aria-label={t.home.callPerson(user.name)}
        disabled={disconnected}
        onClick={() => onRing(user, true)}
      >
        <VideoIcon />
      </button>
    </li>
  )
}

/** Nobody else is here: how to change that. */
export function Nobody({ place }: { place: string }) {
  const { origin, hostname } = location
  const loopback = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/u.test(hostname)
  const shares = !loopback && 'share' in navigator
  return (
    <section class="nobody">
      <EmptyDrawing />
      <h2>{t.home.emptyTitle}</h2>
      <p class="nobody-how">{loopback ? <Loopback /> : t.home.empty}</p>
      <p class="address">
        <code>{origin}</code>
      </p>
      {shares && (
        <button
          class="button button-main"
          type="button"
          onClick={() => {
            // Rejected when the person changes their mind.
            navigator.share({ title: place, url: origin }).catch(() => undefined)
          }}
        >
          <ShareIcon />
          {t.home.share}
        </button>
      )}
      <CopyLink main={!shares} />
    </section>
  )
}

// The command must not break across lines.
function Loopback() {
  const flag = '--tls self-signed'
  const [before, after] = t.home.emptyLoopback(flag).split(flag)
  return (
    <>
      {before}
      <code class="command">{flag}</code>
      {after}
    </>
  )
}
