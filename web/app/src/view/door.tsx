import { useSignal } from '@preact/signals'
import type { Abilities } from 'visavis'
import type { Refusal } from '../model/refusal.ts'
import { t } from '../strings/pick.ts'
import { refusal } from '../strings/sentences.ts'
import { CopyLink } from './copy.tsx'
import { Mark } from './icons.tsx'
import { Words } from './words.tsx'
import './door.css'

interface Props extends EnterProps, DevicesProps {
  place: string
}

export function Door({ place, able, secure, ...entrance }: Props) {
  return (
    <main class="door">
      <div class="door-inside">
        <Mark />
        <h1>{place}</h1>
        {able.calls ? <Enter {...entrance} /> : <p class="note note-warn">{t.door.noCalls}</p>}
        <Devices secure={secure} able={able} />
      </div>
    </main>
  )
}

interface EnterProps {
  /** The name of an earlier visit; may be empty. */
  rememberedName: string
  refused: Refusal | undefined
  /** A name was given and the server has not answered yet. */
  entering: boolean
  /** The server is not reached; and it seems to be WebSockets that are blocked. */
  offline: boolean
  blocked: boolean
  onEnter: (name: string) => void
  /** The name is being changed. */
  onEdit: () => void
}

function Enter(props: EnterProps) {
  const { refused, entering, blocked, onEnter, onEdit } = props
  const name = useSignal(props.rememberedName)
  const unreachable = entering && props.offline
  const trouble = refused
    ? refusal(refused, t)
    : unreachable
      ? blocked
        ? t.door.blocked
        : t.door.unreachable
      : undefined
  return (
    <form
      class="door-form"
      novalidate
      onSubmit={(event) => {
        event.preventDefault()
        if (!entering) onEnter(name.value)
      }}
    >
      <label class="label" for="door-name">
        {t.door.name}
      </label>
      <input
        id="door-name"
        class="field"
        type="text"
        autocomplete="nickname"
        autocapitalize="words"
        spellcheck={false}
        maxLength={320}
        value={name.value}
        aria-invalid={refused !== undefined}
        aria-describedby="door-trouble"
        data-focus
        onInput={(event) => {
          name.value = event.currentTarget.value
          onEdit()
        }}
      />
      <p
        id="door-trouble"
        class={`trouble ${unreachable && !refused ? 'trouble-waiting' : ''}`}
        role="alert"
      >
        <Words>{trouble}</Words>
      </p>
      <button class="button button-main" type="submit" aria-disabled={entering}>
        <Words>{entering ? t.door.entering : t.door.enter}</Words>
      </button>
    </form>
  )
}

interface DevicesProps {
  /** The browser gives this page devices at all. */
  secure: boolean
  able: Abilities
}

/** What becomes of camera and microphone, or why there will be none. */
function Devices({ secure, able }: DevicesProps) {
  if (!secure) return <p class="note note-warn">{t.door.insecure}</p>
  if (able.calls && able.devices) return <p class="door-devices">{t.door.devices}</p>
  return (
    <>
      {able.calls && <p class="note note-warn">{t.door.noDevices}</p>}
      <div class="door-elsewhere">
        <p class="address">
          <code>{location.origin}</code>
        </p>
        <CopyLink />
      </div>
    </>
  )
}

/** Somebody whom this browser knows is on their way in. */
export function Opening({ place }: { place: string }) {
  return (
    <main class="opening" aria-label={place}>
      <Mark />
      <p role="status">{t.opening}</p>
    </main>
  )
}
