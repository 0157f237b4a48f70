import { useSignal } from '@preact/signals'
import type { App } from '../model/app.ts'
import { t } from '../strings/pick.ts'
import { pushHint, pushTrouble, refusal, signOutTrouble } from '../strings/sentences.ts'
import { Avatar } from './avatar.tsx'
import { LeaveIcon } from './icons.tsx'
import { Words } from './words.tsx'
import './me.css'

export function Me({ app }: { app: App }) {
  const user = app.user.value
  const name = useSignal(user?.name ?? app.rememberedName)
  const refused = app.refusal.value
  const changed = name.value.trim() !== user?.name
  return (
    <>
      <header class="list-head">
        <h1 class="title" data-focus tabIndex={-1}>
          {t.home.me}
        </h1>
      </header>
      <div class="list-body me">
        {user && (
          <div class="me-card">
            <Avatar person={user} size="medium" />
            <p class="me-name name" dir="auto" translate={false}>
              {user.name}
            </p>
            <p class="me-you">{t.me.you}</p>
          </div>
        )}
        <form
          class="me-form"
          novalidate
          onSubmit={(event) => {
            event.preventDefault()
            if (!app.renaming.value) void app.rename(name.value)
          }}
        >
          <label class="label" for="me-name">
            {t.me.name}
          </label>
          <input
            id="me-name"
            class="field"
            type="text"
            autocomplete="nickname"
            spellcheck={false}
            maxLength={320}
            value={name.value}
            aria-invalid={refused !== undefined}
            aria-describedby="me-trouble"
            onInput={(event) => {
              name.value = event.currentTarget.value
              app.refusal.value = undefined
              app.renamed.value = false
            }}
          />
          <p id="me-trouble" class="trouble" role="alert">
            <Words>{refused && refusal(refused, t)}</Words>
          </p>
          <button class="button" type="submit" disabled={!changed || app.renaming.value}>
            <Words>{app.renaming.value ? t.me.changing : t.me.change}</Words>
          </button>
          <p class="me-changed" role="status">
            <Words>{app.renamed.value ? t.me.changed : ''}</Words>
          </p>
        </form>
        <Rings app={app} />
        <p class="choice-hint">{t.me.encryptedHint}</p>
        <div class="me-leave">
          <button class="button button-stop" type="button" onClick={() => app.leave()}>
            <LeaveIcon />
            {t.me.leave}
          </button>
          <p>{t.me.leaveHint}</p>
          <button
            class="button"
            type="button"
            disabled={app.signingOut.value || app.disconnected.value}
            onClick={() => confirm(t.me.signOutAsk) && void app.signOut()}
          >
            {t.me.signOut}
          </button>
          <p role="status">
            <Words>
              {app.signOutRefusal.value
                ? signOutTrouble(app.signOutRefusal.value, t)
                : t.me.signOutHint}
            </Words>
          </p>
        </div>
      </div>
    </>
  )
}

/** What becomes of a ring, by this person's choice. */
function Rings({ app }: { app: App }) {
  const { whenBusy, doNotDisturb } = app.prefers.value
  return (
    <div class="me-rings">
      <fieldset class="choices">
        <legend class="label">{t.me.whenBusy}</legend>
        {choices.map(({ choice, label, hint }) => (
          <div key={choice} class="choice">
            <label class="choice-label" for={`me-${choice}`}>
              {label}
            </label>
            <input
              id={`me-${choice}`}
              type="radio"
              name="me-when-busy"
              checked={whenBusy === choice}
              aria-describedby={`me-${choice}-hint`}
              onChange={() => app.prefer({ whenBusy: choice })}
            />
            <p id={`me-${choice}-hint`} class="choice-hint">
              {hint}
            </p>
          </div>
        ))}
      </fieldset>
      <div class="choice">
        <label class="choice-label" for="me-quiet">
          {t.me.doNotDisturb}
        </label>
        <input
          id="me-quiet"
          class="switch"
          type="checkbox"
          role="switch"
          checked={doNotDisturb}
          aria-checked={doNotDisturb}
          aria-describedby="me-quiet-hint"
          onChange={(event) => app.prefer({ doNotDisturb: event.currentTarget.checked })}
        />
        <p id="me-quiet-hint" class="choice-hint">
          {t.me.doNotDisturbHint}
        </p>
      </div>
      <ClosedPage app={app} />
      <div class="choice">
        <label class="choice-label" for="me-relay">
          {t.me.alwaysRelay}
        </label>
        <input
          id="me-relay"
          class="switch"
          type="checkbox"
          role="switch"
          checked={app.alwaysRelay.value}
          aria-checked={app.alwaysRelay.value}
          aria-describedby="me-relay-hint"
          onChange={(event) => app.hideAddress(event.currentTarget.checked)}
        />
        <p id="me-relay-hint" class="choice-hint">
          {t.me.alwaysRelayHint}
        </p>
      </div>
      <div class="choice">
        <label class="choice-label" for="me-strangers">
          {t.me.relayStrangers}
        </label>
        <input
          id="me-strangers"
          class="switch"
          type="checkbox"
          role="switch"
          disabled={app.alwaysRelay.value}
          checked={app.alwaysRelay.value || app.relayStrangers.value}
          aria-checked={app.alwaysRelay.value || app.relayStrangers.value}
          aria-describedby="me-strangers-hint"
          onChange={(event) => app.hideAddressFromStrangers(event.currentTarget.checked)}
        />
        <p id="me-strangers-hint" class="choice-hint">
          {t.me.relayStrangersHint}
        </p>
      </div>
      <div class="choice">
        <label class="choice-label" for="me-shortcuts">
          {t.me.shortcuts}
        </label>
        <input
          id="me-shortcuts"
          class="switch"
          type="checkbox"
          role="switch"
          checked={app.shortcuts.value}
          aria-checked={app.shortcuts.value}
          aria-describedby="me-shortcuts-hint"
          onChange={(event) => app.useShortcuts(event.currentTarget.checked)}
        />
        <p id="me-shortcuts-hint" class="choice-hint">
          {t.me.shortcutsHint}
        </p>
      </div>
    </div>
  )
}

/** Whether it rings here while the page is closed. */
function ClosedPage({ app }: { app: App }) {
  const { push } = app
  const state = push.state.value
  const early = state === 'off' && app.home.neverCalled.value
  const can = state === 'on' || (state === 'off' && !early)
  const refused = push.refusal.value
  const hint = can && refused ? pushTrouble(refused, t) : pushHint(state, app, t)
  return (
    <div class="choice">
      <label class="choice-label" for="me-push">
        {t.me.push}
      </label>
      <input
        id="me-push"
        class="switch"
        type="checkbox"
        role="switch"
        checked={push.on.value}
        aria-checked={push.on.value}
        aria-describedby="me-push-hint"
        disabled={!can || app.disconnected.value}
        onChange={(event) => void push.turn(event.currentTarget.checked)}
      />
      <p id="me-push-hint" class="choice-hint" role="status">
        <Words>{early ? t.me.pushFirstCall : hint}</Words>
      </p>
    </div>
  )
}

const choices = [
  { choice: 'waiting', label: t.me.ringSoftly, hint: t.me.ringSoftlyHint },
  { choice: 'busy', label: t.me.beBusy, hint: t.me.beBusyHint },
] as const
