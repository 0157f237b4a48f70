import { useSignal } from '@preact/signals'
import { t } from '../strings/pick.ts'
import { CheckIcon, CopyIcon } from './icons.tsx'
import { Words } from './words.tsx'

/** Copies the address of this place. Some browsers let no page do that: there the address can be selected beside it. */
export function CopyLink({ main = false }: { main?: boolean }) {
  const copied = useSignal(false)
  if (!('clipboard' in navigator)) return null
  const copy = async () => {
    await navigator.clipboard.writeText(location.origin)
    copied.value = true
    setTimeout(() => {
      copied.value = false
    }, 2000)
  }
  return (
    <button
      class={`button ${main ? 'button-main' : ''}`}
      type="button"
      onClick={() => void copy().catch(() => undefined)}
    >
      {copied.value ? <CheckIcon /> : <CopyIcon />}
      <span aria-live="polite">
        <Words>{copied.value ? t.home.copied : t.home.copy}</Words>
      </span>
    </button>
  )
}
