import type { ComponentChildren } from 'preact'
import type { CallModel } from '../model/call.ts'
import { t } from '../strings/pick.ts'
import { Avatar } from './avatar.tsx'
import { HangupIcon, VideoIcon, VoiceIcon } from './icons.tsx'
import { DeviceTrouble } from './trouble.tsx'
import { Words } from './words.tsx'
import './ringing.css'

interface Props {
  call: CallModel
  place: string
  disconnected: boolean
  /** The browser lets the page make no sound. */
  silent: boolean
}

export function Ringing({ call, place, disconnected, silent }: Props) {
  const rings = call.state.value === 'ringing'
  return (
    <div class="ringing">
      <DeviceTrouble devices={call.devices} peer={call.peer} />
      <div class="ringing-who">
        <span class="pulse" data-on={rings && !call.answered.value}>
          <Avatar person={call.peer} size="large" />
        </span>
        <h1 class="ringing-name name" dir="auto" translate={false} data-focus tabIndex={-1}>
          {call.peer.name}
        </h1>
        <p class="ringing-state" role="status">
          <Words>
            {disconnected
              ? t.home.offlineBar
              : call.answered.value
                ? t.ringing.accepting
                : call.direction === 'in'
                  ? kind(call.video.value, place)
                  : rings
                    ? t.ringing.ringing
                    : t.ringing.calling(call.peer.name)}
          </Words>
        </p>
        {call.direction === 'in' && silent && (
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
      {call.direction === 'in' ? (
        <Answers
          video={call.video.value}
          answered={call.answered.value}
          onAccept={(video) => call.accept(video)}
          onDecline={() => call.decline()}
          onIgnore={() => call.ignore()}
        />
      ) : (
        <Cancel onClick={() => call.hangup()} />
      )}
    </div>
  )
}

/** What kind of call rings. */
export function kind(video: boolean, place: string): string {
  return video ? t.ringing.video(place) : t.ringing.voice(place)
}

interface AnswersProps {
  video: boolean
  answered: boolean
  onAccept: (video: boolean) => void
  onDecline: () => void
  onIgnore: () => void
}

function Answers({ video, answered, onAccept, onDecline, onIgnore }: AnswersProps) {
  return (
    <div class="ringing-acts">
      <div class="acts">
        <DeclineAct disabled={answered} onClick={onDecline} />
        {video && (
          <Act label={t.ringing.voiceOnly} disabled={answered} onClick={() => onAccept(false)}>
            <VoiceIcon />
          </Act>
        )}
        <AcceptAct
          label={t.ringing.accept}
          video={video}
          disabled={answered}
          onClick={() => onAccept(video)}
        />
      </div>
      <button class="link ringing-ignore" type="button" disabled={answered} onClick={onIgnore}>
        {t.ringing.ignore}
      </button>
    </div>
  )
}

function Cancel({ onClick }: { onClick: () => void }) {
  return (
    <div class="ringing-acts">
      <div class="acts">
        <Act label={t.call.hangup} kind="stop" onClick={onClick}>
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

export function DeclineAct({ disabled, onClick }: Pick<ActProps, 'disabled' | 'onClick'>) {
  return (
    <Act label={t.ringing.decline} kind="stop" disabled={disabled ?? false} onClick={onClick}>
      <HangupIcon />
    </Act>
  )
}

interface AcceptProps extends Pick<ActProps, 'label' | 'disabled' | 'onClick'> {
  video: boolean
}

/** Takes a call that rings; `label` says what that does besides. */
export function AcceptAct({ label, video, disabled, onClick }: AcceptProps) {
  return (
    <Act label={label} kind="go" disabled={disabled ?? false} onClick={onClick}>
      {video ? <VideoIcon /> : <VoiceIcon />}
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
