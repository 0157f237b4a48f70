import type { ComponentChildren } from 'preact'
import type { App } from '../model/app.ts'
import type { CallModel } from '../model/call.ts'
import { t } from '../strings/pick.ts'
import { Avatar } from './avatar.tsx'
import { HangupIcon, VideoIcon, VoiceIcon } from './icons.tsx'
import { DeviceTrouble } from './stage.tsx'
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
        <h1 class="ringing-name" data-focus tabIndex={-1}>
          {call.peer.name}
        </h1>
        <p class="ringing-state" role="status">
          {app.disconnected.value
            ? t.home.offlineBar
            : call.answered.value
              ? t.ringing.accepting
              : call.direction === 'in'
                ? kind(call, place)
                : rings
                  ? t.ringing.ringing
                  : t.ringing.calling(call.peer.name)}
        </p>
      </div>
      {call.direction === 'in' ? <Answers call={call} /> : <Cancel call={call} />}
    </div>
  )
}

function kind(call: CallModel, place: string): string {
  return call.video.value ? t.ringing.video(place) : t.ringing.voice(place)
}

function Answers({ call }: { call: CallModel }) {
  const answered = call.answered.value
  return (
    <div class="ringing-acts">
      <div class="acts">
        <Act
          label={t.ringing.decline}
          kind="stop"
          disabled={answered}
          onClick={() => call.decline()}
        >
          <HangupIcon />
        </Act>
        {call.video.value && (
          <Act label={t.ringing.voiceOnly} disabled={answered} onClick={() => call.accept(false)}>
            <VoiceIcon />
          </Act>
        )}
        <Act
          label={t.ringing.accept}
          kind="go"
          disabled={answered}
          onClick={() => call.accept(call.video.value)}
        >
          {call.video.value ? <VideoIcon /> : <VoiceIcon />}
        </Act>
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

function Act({ label, kind, disabled, onClick, children }: ActProps) {
  return (
    <button class="act" type="button" disabled={disabled ?? false} onClick={onClick}>
      <span class={`control ${kind ? `control-${kind}` : ''}`}>{children}</span>
      <span class="act-label">{label}</span>
    </button>
  )
}
