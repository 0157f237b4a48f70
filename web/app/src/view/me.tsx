import { useSignal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import type { Prefers, PushReadiness, User } from 'visavis'
import type { Refusal } from '../model/refusal.ts'
import { t } from '../strings/pick.ts'
import { pushHint, pushTrouble, refusal, signOutTrouble } from '../strings/sentences.ts'
import { Avatar } from './avatar.tsx'
import { LeaveIcon } from './icons.tsx'
import { Words } from './words.tsx'
import './me.css'

/** The page of the person themselves: who they are, and what they choose. */
export function Me({ user, children }: { user: User | undefined; children: ComponentChildren }) {
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
        {children}
      </div>
    </>
  )
}

interface NameProps {
  /** The name of now; undefined before the server has said it. */
  name: string | undefined
  /** The name of an earlier visit; may be empty. */
  rememberedName: string
  refused: Refusal | undefined
  /** Another name was given and the server has not answered yet; and it has agreed. */
  renaming: boolean
  renamed: boolean
  onRename: (name: string) => void
  /** The name is being changed. */
  onEdit: () => void
}

/** Takes another name. */
export function NameForm(props: NameProps) {
  const { refused, renaming, renamed, onRename, onEdit } = props
  const name = useSignal(props.name ?? props.rememberedName)
  const changed = name.value.trim() !== props.name
  return (
    <form
      class="me-form"
      novalidate
      onSubmit={(event) => {
        event.preventDefault()
        if (!renaming) onRename(name.value)
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
          onEdit()
        }}
      />
      <p id="me-trouble" class="trouble" role="alert">
        <Words>{refused && refusal(refused, t)}</Words>
      </p>
      <button class="button" type="submit" disabled={!changed || renaming}>
        <Words>{renaming ? t.me.changing : t.me.change}</Words>
      </button>
      <p class="me-changed" role="status">
        <Words>{renamed ? t.me.changed : ''}</Words>
      </p>
    </form>
  )
}

export function EncryptedHint() {
  return <p class="choice-hint">{t.me.encryptedHint}</p>
}

interface LeaveProps {
  /** The person cannot sign out now. */
  waits: boolean
  /** Why signing out came to nothing. */
  refused: Refusal | undefined
  onLeave: () => void
  onSignOut: () => void
}

/** Leaves this place, here or everywhere. */
export function Leave({ waits, refused, onLeave, onSignOut }: LeaveProps) {
  return (
    <div class="me-leave">
      <button class="button button-stop" type="button" onClick={onLeave}>
        <LeaveIcon />
        {t.me.leave}
      </button>
      <p>{t.me.leaveHint}</p>
      <button
        class="button"
        type="button"
        disabled={waits}
        onClick={() => confirm(t.me.signOutAsk) && onSignOut()}
      >
        {t.me.signOut}
      </button>
      <p role="status">
        <Words>{refused ? signOutTrouble(refused, t) : t.me.signOutHint}</Words>
      </p>
    </div>
  )
}

interface ChoiceProps {
  prefers: Prefers
  alwaysRelay: boolean
  relayStrangers: boolean
  shortcuts: boolean
  onPrefer: (change: Partial<Prefers>) => void
  onAlwaysRelay: (on: boolean) => void
  onRelayStrangers: (on: boolean) => void
  onShortcuts: (on: boolean) => void
  /** The switch for rings while the page is closed. */
  children: ComponentChildren
}

/** What becomes of a ring, by this person's choice. */
export function ChoiceList({
  prefers,
  alwaysRelay,
  relayStrangers,
  shortcuts,
  ...props
}: ChoiceProps) {
  const { whenBusy, doNotDisturb } = prefers
  return (
    <div class="me-rings">
      <fieldset class="choices">
        <legend class="label">{t.me.whenBusy}</legend>
        {whenBusyChoices.map(({ choice, label, hint }) => (
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
              onChange={() => props.onPrefer({ whenBusy: choice })}
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
          onChange={(event) => props.onPrefer({ doNotDisturb: event.currentTarget.checked })}
        />
        <p id="me-quiet-hint" class="choice-hint">
          {t.me.doNotDisturbHint}
        </p>
      </div>
      {props.children}
      <div class="choice">
        <label class="choice-label" for="me-relay">
          {t.me.alwaysRelay}
        </label>
        <input
          id="me-relay"
          class="switch"
          type="checkbox"
          role="switch"
          checked={alwaysRelay}
          aria-checked={alwaysRelay}
          aria-describedby="me-relay-hint"
          onChange={(event) => props.onAlwaysRelay(event.currentTarget.checked)}
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
          disabled={alwaysRelay}
          checked={alwaysRelay || relayStrangers}
          aria-checked={alwaysRelay || relayStrangers}
          aria-describedby="me-strangers-hint"
          onChange={(event) => props.onRelayStrangers(event.currentTarget.checked)}
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
          checked={shortcuts}
          aria-checked={shortcuts}
          aria-describedby="me-shortcuts-hint"
          onChange={(event) => props.onShortcuts(event.currentTarget.checked)}
        />
        <p id="me-shortcuts-hint" class="choice-hint">
          {t.me.shortcutsHint}
        </p>
      </div>
    </div>
  )
}

interface PushProps {
  state: PushReadiness
  /** How the switch stands, which answers before the browser and the server have. */
  on: boolean
  /** Why the last turn of the switch came to nothing. */
  refused: Refusal | undefined
  /** The person was in no call yet: the server adds no device before that. */
  neverCalled: boolean
  secure: boolean
  wantsHomeScreen: boolean
  disconnected: boolean
  onTurn: (on: boolean) => void
}

/** Whether it rings here while the page is closed. */
export function PushChoice(props: PushProps) {
  const { state, on, refused, neverCalled, disconnected, onTurn } = props
  const early = state === 'off' && neverCalled
  const can = state === 'on' || (state === 'off' && !early)
  const hint = can && refused ? pushTrouble(refused, t) : pushHint(state, props, t)
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
        checked={on}
        aria-checked={on}
        aria-describedby="me-push-hint"
        disabled={!can || disconnected}
        onChange={(event) => onTurn(event.currentTarget.checked)}
      />
      <p id="me-push-hint" class="choice-hint" role="status">
        <Words>{early ? t.me.pushFirstCall : hint}</Words>
      </p>
    </div>
  )
}

const whenBusyChoices = [
  { choice: 'waiting', label: t.me.ringSoftly, hint: t.me.ringSoftlyHint },
  { choice: 'busy', label: t.me.beBusy, hint: t.me.beBusyHint },
] as const
