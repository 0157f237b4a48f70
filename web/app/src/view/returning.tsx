import { hue } from '../initials.ts'
import type { Person } from '../model/person.ts'
import { t } from '../strings/pick.ts'
import { Avatar } from './avatar.tsx'

/** The page was loaded anew in the midst of a call: the stage is there before the call is. */
export function Returning({ peer }: { peer: Person }) {
  return (
    <main
      class="stage"
      style={{ '--hue': hue(peer.id) }}
      data-still
      aria-label={t.call.with(peer.name)}
    >
      <div class="stage-glow" />
      <div class="tile" data-place="stage">
        <div class="tile-behind">
          <Avatar person={peer} size="large" />
          <p class="tile-words" />
        </div>
      </div>
      <div class="in-call">
        <header class="call-head">
          <h1 class="call-name name-line" dir="auto" translate={false} data-focus tabIndex={-1}>
            {peer.name}
          </h1>
          <p class="call-facts">&nbsp;</p>
        </header>
        <div class="call-notes" />
        <div class="call-still">
          <p role="status">{t.call.returning}</p>
        </div>
      </div>
    </main>
  )
}
