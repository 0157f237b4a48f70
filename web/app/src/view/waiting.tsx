import { useLayoutEffect, useRef } from 'preact/hooks'
import type { Person } from '../model/person.ts'
import { t } from '../strings/pick.ts'
import { Avatar } from './avatar.tsx'
import { AcceptAct, DeclineAct, kind } from './ringing.tsx'
import './waiting.css'

interface Props {
  peer: Person
  /** It is a video call. */
  video: boolean
  place: string
  /** The person has accepted or declined, and the server has not answered yet. */
  answered: boolean
  onAccept: () => void
  onDecline: () => void
}

/** Somebody rings while a call is on: it lies over that call and takes nothing from it. */
export function WaitingCard({ peer, video, place, answered, onAccept, onDecline }: Props) {
  const card = useRef<HTMLElement>(null)

  // The focus does not go down with the card.
  useLayoutEffect(() => {
    const element = card.current
    return () => {
      if (!element?.contains(document.activeElement)) return
      document.querySelector<HTMLElement>('[data-focus]')?.focus({ preventScroll: true })
    }
  }, [])

  return (
    <section ref={card} class="waiting" aria-label={t.ringing.title(peer.name)}>
      <Avatar person={peer} size="small" />
      <div class="waiting-words">
        <p class="waiting-name name" role="alert">
          {t.ringing.title(peer.name)}
        </p>
        <p class="waiting-kind">{kind(video, place)}</p>
      </div>
      <div class="waiting-acts">
        <DeclineAct disabled={answered} onClick={onDecline} />
        <AcceptAct
          label={t.ringing.endAndAccept}
          video={video}
          disabled={answered}
          onClick={onAccept}
        />
      </div>
    </section>
  )
}
