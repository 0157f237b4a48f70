import { useSignal } from '@preact/signals'
import type { Devices } from '../model/devices.ts'
import type { Person } from '../model/person.ts'
import { t } from '../strings/pick.ts'
import { deviceTrouble } from '../strings/sentences.ts'
import { CloseIcon, UnfoldIcon } from './icons.tsx'
import { Words } from './words.tsx'

/**
 * Which of my devices is not in the call, and why. Where there is little room two of them take one line, what they come
 * to, until the person wants more.
 */
export function DeviceTrouble({ devices, peer }: { devices: Devices; peer: Person }) {
  const mine = devices.shown.value
  const open = useSignal(false)
  const sentences = deviceTrouble(mine.problems, mine, peer.name, t)
  const folds = sentences.includes(t.devices.effect.both(peer.name))
  const { audio, video } = mine.asking
  const asked = audio && video ? 'both' : audio ? 'audio' : video ? 'video' : undefined
  return (
    <div class="device-trouble" role="status">
      {asked && (
        <p class="floating floating-asks">
          <Words>{t.devices.asking[asked]}</Words>
        </p>
      )}
      {sentences.length > 0 && !devices.dismissed.value && (
        <div class="floating" data-folded={folds && !open.value}>
          <div class="device-trouble-words">
            {folds && (
              <button
                class="device-trouble-fold"
                type="button"
                aria-expanded={open.value}
                onClick={() => {
                  open.value = !open.value
                }}
              >
                {t.devices.effect.neither}
                <UnfoldIcon />
              </button>
            )}
            {sentences.map((sentence) => (
              <p key={sentence}>{sentence}</p>
            ))}
          </div>
          <button
            class="round"
            type="button"
            aria-label={t.call.dismiss}
            onClick={() => devices.dismiss()}
          >
            <CloseIcon />
          </button>
        </div>
      )}
    </div>
  )
}
