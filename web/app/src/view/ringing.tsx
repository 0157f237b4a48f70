import type { ComponentChildren } from 'preact'
import type { App } from '../model/app.ts'
import type { CallModel } from '../model/call.ts'
import { t } from '../strings/pick.ts'
import { Avatar } from './avatar.tsx'
import { HangupIcon, VideoIcon, VoiceIcon } from './icons.tsx'
import { DeviceTrouble } from './trouble.tsx'
import { Words } from './words.tsx'
import './ringing.css'

export function Ringing({ app, call }: { app: App; call: CallModel }) {
  const place = app.place.value?.name ?? 'Visavis'
  const rings = call.state.value === 'ringing'
  return (
    <div class="ringing">
      <DeviceTrouble call={call} />
      <div class="ringing-who">
        <span class="pulse" data-on={rings && !call.answered.value}>
          <Avatar person={call.peer} size="large" />
        </span>
        <h1 class="ringing-name name" dir="auto" translate={false} data-focus tabIndex={-1}>
          {call.peer.name}
        </h1>
        <p class="ringing-state" role="status">
          <Words>
            {app.disconnected.value
              ? t.home.offlineBar
              : call.answered.value
                ? t.ringing.accepting
                : call.direction === 'in'
                  ? kind(call, place)
                  : rings
                    ? t.ringing.ringing
                    : t.ringing.calling(call.peer.name)}
          </Words>
        </p>
        {call.direction === 'in' && app.silent.value && (
          <button class="link ringing-silent" type="button">
            {t.ringing.silent}
          </button>
        )}
        {call.elsewhere.value && (
          <p class="ringing-elsewhere">
            <Words>{t.ringing.elsewhere[call.elsewhere.value]}</Words>
          </p>
        )}
      </div>
      {call.direction === 'in' ? <Answers call={call} /> : <Cancel call={call} />}
    </div>
  )
}

/** What kind of call rings. */
export function kind(call: CallModel, place: string): string {
  return call.video.value ? t.ringing.video(place) : t.ringing.voice(place)
}

function Answers({ call }: { call: CallModel }) {
  const answered = call.answered.value
  return (
    <div class="ringing-acts">
      <div class="acts">
        <DeclineAct call={call} />
        {call.video.value && (
          <Act label={t.ringing.voiceOnly} disabled={answered} onClick={() => call.accept(false)}>
            <VoiceIcon />
          </Act>
        )}
        <AcceptAct
          call={call}
          label={t.ringing.accept}
          onClick={() => call.accept(call.video.value)}
        />
      </div>
      <button
        class="link ringing-ignore"
        type="button"
        disabled={answered}
        onClick={() => call.ignore()}
      >
        {t.ringing.ignore}
      </button>
    </div>
  )
}

function Cancel({ call }: { call: CallModel }) {
  return (
    <div class="ringing-acts">
      <div class="acts">
        <Act label={t.call.hangup} kind="stop" onClick={() => call.hangup()}>
          <HangupIcon />
        </Act>
      </div>
    </div>
  )
}

interface ActProps {
  label: string
  kind?: 'go' | 'stop'
  disabled?: boolean
  onClick: () => void
  children: ComponentChildren
}

export function DeclineAct({ call }: { call: CallModel }) {
  return (
    <Act
      label={t.ringing.decline}
      kind="stop"
      disabled={call.answered.value}
      onClick={() => call.decline()}
    >
      <HangupIcon />
    </Act>
  )
}

/** Takes a call that rings; `label` says what that does besides. */
export function AcceptAct({
  call,
  label,
  onClick,
}: {
  call: CallModel
  label: string
  onClick: () => void
}) {
  return (
    <Act label={label} kind="go" disabled={call.answered.value} onClick={onClick}>
      {call.video.value ? <VideoIcon /> : <VoiceIcon />}
    </Act>
  )
}

// One thing to do with a call that rings: its sign, and its name below.
function Act({ label, kind, disabled, onClick, children }: ActProps) {
  return (
    <button class="act" type="button" disabled={disabled ?? false} onClick={onClick}>
      <span class={`control ${kind ? `control-${kind}` : ''}`}>{children}</span>
      <span class="act-label">{label}</span>
    </button>
  )
}
