import { useLayoutEffect, useRef } from 'preact/hooks'
import type { App } from '../model/app.ts'
import type { CallModel } from '../model/call.ts'
import { t } from '../strings/pick.ts'
import { Avatar } from './avatar.tsx'
import { AcceptAct, DeclineAct, kind } from './ringing.tsx'
import './waiting.css'

/** Somebody rings while a call is on: it lies over that call and takes nothing from it. */
export function WaitingCard({ app, call }: { app: App; call: CallModel }) {
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
    <section ref={card} class="waiting" aria-label={t.ringing.title(call.peer.name)}>
      <Avatar person={call.peer} size="small" />
      <div class="waiting-words">
        <p class="waiting-name name" role="alert">
          {t.ringing.title(call.peer.name)}
        </p>
        <p class="waiting-kind">{kind(call, app.place.value?.name ?? 'Visavis')}</p>
      </div>
      <div class="waiting-acts">
        <DeclineAct call={call} />
        <AcceptAct call={call} label={t.ringing.endAndAccept} onClick={() => app.acceptWaiting()} />
      </div>
    </section>
  )
}
