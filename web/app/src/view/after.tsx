import type { After } from '../model/after.ts'
import { locale, t } from '../strings/pick.ts'
import { ending } from '../strings/sentences.ts'
import { length } from '../times.ts'
import { Avatar } from './avatar.tsx'
import { CloseIcon, VideoIcon, VoiceIcon } from './icons.tsx'
import './after.css'

interface Props {
  after: After
  disconnected: boolean
  /** Calls the person again. */
  onAgain: () => void
}

export function AfterCard({ after, disconnected, onAgain }: Props) {
  const { peer, end, direction, video } = after
  return (
    <section
      class="after card"
      aria-label={t.after.card}
      onPointerEnter={() => after.hold('pointer', true)}
      onPointerLeave={() => after.hold('pointer', false)}
      onFocusIn={() => after.hold('focus', true)}
      onFocusOut={() => after.hold('focus', false)}
    >
      <Avatar person={peer} size="small" />
      <div class="after-words">
        <p class="after-why name">{ending(end, direction, peer.name, t)}</p>
        {end.durationMs > 0 && (
          <p class="after-long">{t.after.lasted(length(end.durationMs / 1000, locale))}</p>
        )}
      </div>
      <button
        class="round after-close"
        type="button"
        aria-label={t.after.close}
        onClick={() => after.close()}
      >
        <CloseIcon />
      </button>
      <button class="button after-again" type="button" disabled={disconnected} onClick={onAgain}>
        {video ? <VideoIcon /> : <VoiceIcon />}
        {video ? t.after.again : t.after.voiceAgain}
      </button>
    </section>
  )
}
