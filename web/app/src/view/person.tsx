import { useLayoutEffect, useRef } from 'preact/hooks'
import type { CallRecord, User } from 'visavis'
import { t } from '../strings/pick.ts'
import { Avatar } from './avatar.tsx'
import { BackIcon, VideoIcon, VoiceIcon } from './icons.tsx'
import { RecordLine } from './recents.tsx'
import { Words } from './words.tsx'
import './person.css'

function isSeen(element: Element): boolean {
  return element.checkVisibility({ visibilityProperty: true })
}

interface Props {
  person: User
  /** The last calls with the person, and the time by the clock that they are dated by. */
  calls: readonly CallRecord[]
  now: Date
  /** The id of the person who was chosen from a list, if one was. */
  chosen: string | undefined
  disconnected: boolean
  onBack: () => void
  onRing: (video: boolean) => void
}

/** One person, large, with what can be done and what was. */
export function PersonPage({ person, calls, now, chosen, disconnected, onBack, onRing }: Props) {
  const head = useRef<HTMLHeadingElement>(null)

  // On a phone the person lies over the list: the focus goes there, and back to where it came from.
  useLayoutEffect(() => {
    const from = document.activeElement
    if (chosen === undefined || !(from instanceof HTMLElement) || isSeen(from)) return
    head.current?.focus({ preventScroll: true })
    return () => {
      const at = document.activeElement
      if (from.isConnected && (!at || at === document.body || !isSeen(at))) {
        from.focus({ preventScroll: true })
      }
    }
  }, [chosen])

  return (
    <section class="person" aria-label={person.name}>
      <button class="round person-back" type="button" aria-label={t.home.back} onClick={onBack}>
        <BackIcon />
      </button>
      <Avatar person={person} size="large" />
      <h2 ref={head} class="person-name name" dir="auto" translate={false} tabIndex={-1}>
        {person.name}
      </h2>
      <p class="person-presence">
        <span class="dot" data-presence={person.presence} />
        <Words>{t.home[person.presence]}</Words>
      </p>
      <div class="person-acts">
        <button
          class="button button-main"
          type="button"
          disabled={disconnected}
          onClick={() => onRing(true)}
        >
          <VideoIcon />
          {t.home.call}
        </button>
        <button class="button" type="button" disabled={disconnected} onClick={() => onRing(false)}>
          <VoiceIcon />
          {t.home.voice}
        </button>
      </div>
      <div class="card last-calls">
        <h3>{t.home.lastCalls}</h3>
        {calls.length === 0 ? (
          <p class="last-calls-none">{t.home.noLastCalls(person.name)}</p>
        ) : (
          <ul>
            {calls.map((record) => (
              <li key={record.id} class="last-call">
                <RecordLine record={record} now={now} />
              </li>
            ))}
          </ul>
        )}
      </div>
    </section>
  )
}
