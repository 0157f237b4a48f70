import { useSignal } from '@preact/signals'
import type { App } from '../model/app.ts'
import { t } from '../strings/pick.ts'
import { refusal } from '../strings/sentences.ts'
import { CopyLink } from './copy.tsx'
import { Mark } from './icons.tsx'
import { Words } from './words.tsx'
import './door.css'

export function Door({ app }: { app: App }) {
  return (
    <main class="door">
      <div class="door-inside">
        <Mark />
        <h1>{app.place.value?.name ?? 'Visavis'}</h1>
        {app.able.calls ? <Enter app={app} /> : <p class="note note-warn">{t.door.noCalls}</p>}
        <Devices app={app} />
      </div>
    </main>
  )
}

function Enter({ app }: { app: App }) {
  const name = useSignal(app.rememberedName)
  const refused = app.refusal.value
  const entering = app.entering.value
  const unreachable = entering && app.connection.value === 'offline'
  const trouble = refused
    ? refusal(refused, t)
    : unreachable
      ? app.blocked.value
        ? t.door.blocked
        : t.door.unreachable
      : undefined
  return (
    <form
      class="door-form"
      novalidate
      onSubmit={(event) => {
        event.preventDefault()
        if (!entering) void app.enter(name.value)
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
          app.refusal.value = undefined
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

/** What becomes of camera and microphone, or why there will be none. */
function Devices({ app: { secure, able } }: { app: App }) {
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
export function Opening({ app }: { app: App }) {
  return (
    <main class="opening" aria-label={app.place.value?.name ?? 'Visavis'}>
      <Mark />
      <p role="status">{t.opening}</p>
    </main>
  )
}
