import { useEffect } from 'preact/hooks'
import type { CallModel } from '../model/call.ts'
import { t } from '../strings/pick.ts'
import { interruption } from '../strings/sentences.ts'
import { clock } from '../times.ts'
import {
  HangupIcon,
  LockIcon,
  MicIcon,
  MicOffIcon,
  SpeakerIcon,
  VideoIcon,
  VideoOffIcon,
} from './icons.tsx'
import { DeviceTrouble } from './trouble.tsx'
import { WaitingCard } from './waiting.tsx'
import { Words } from './words.tsx'
import './call.css'

interface Props {
  call: CallModel
  /** Rings while the call is on. */
  waiting: CallModel | undefined
  place: string
  /** The server is reached. */
  online: boolean
  /** M and C are keys of the call. */
  shortcuts: boolean
  onAcceptWaiting: () => void
}

/** What lies over the pictures of a call. */
export function InCall({ call, waiting, place, online, shortcuts, onAcceptWaiting }: Props) {
  const { bar } = call.layout
  const { still, returning, seconds } = call.interruption
  const mine = call.devices.shown.value
  const theirs = call.peerMedia.value
  const asked = theirs.asking === 'audio' || theirs.asking === 'both'

  useEffect(() => {
    const touch = () => bar.touch()
    const press = (event: PointerEvent) => {
      // The touch that brings the bar back presses nothing that could not be seen.
      if (!bar.shown.value && event.pointerType !== 'mouse') swallowClick()
      bar.touch()
    }
    const key = (event: KeyboardEvent) => {
      bar.touch()
      if (!shortcuts) return
      if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return
      if (event.key === 'm' || event.key === 'M') call.toggleAudio()
      if (event.key === 'c' || event.key === 'C') call.toggleVideo()
    }
    const focus = (event: FocusEvent) => {
      bar.hold(
        'focus',
        event.type === 'focusin' &&
          event.target instanceof Element &&
          event.target.matches(':focus-visible') &&
          event.target.closest('.bar') !== null,
      )
    }
    addEventListener('pointermove', touch)
    addEventListener('pointerdown', press, true)
    addEventListener('keydown', key)
    addEventListener('focusin', focus)
    addEventListener('focusout', focus)
    return () => {
      removeEventListener('pointermove', touch)
      removeEventListener('pointerdown', press, true)
      removeEventListener('keydown', key)
      removeEventListener('focusin', focus)
      removeEventListener('focusout', focus)
    }
  }, [call, bar, shortcuts])

  return (
    <div class="in-call">
      <header class="call-head">
        <h1 class="call-name name-line" dir="auto" translate={false} data-focus tabIndex={-1}>
          {call.peer.name}
        </h1>
        <p class="call-facts">
          <span class="call-lock" role="img" aria-label={t.call.encrypted} title={t.call.encrypted}>
            <LockIcon />
          </span>
          <span role="timer" translate={false} aria-label={t.call.time}>
            {clock(call.seconds.value)}
          </span>
        </p>
      </header>
      <div class="call-notes">
        {waiting && (
          <WaitingCard
            key={waiting}
            peer={waiting.peer}
            video={waiting.video.value}
            place={place}
            answered={waiting.answered.value}
            onAccept={onAcceptWaiting}
            onDecline={() => waiting.decline()}
          />
        )}
        {call.soundBlocked.value && (
          <button
            class="button button-main"
            type="button"
            onClick={() => {
              call.soundBlocked.value = false
            }}
          >
            <SpeakerIcon />
            {t.call.tapToHear(call.peer.name)}
          </button>
        )}
        <DeviceTrouble devices={call.devices} peer={call.peer} />
        <div role="status">
          {theirs.asking && (
            <p class="floating floating-line">
              <Words>{t.call.peerAsked[theirs.asking](call.peer.name)}</Words>
            </p>
          )}
          {call.state.value === 'connected' && theirs.video && !theirs.audio && !asked && (
            <p class="floating floating-line">
              <MicOffIcon />
              {t.call.muted(call.peer.name)}
            </p>
          )}
        </div>
      </div>
      <div class="call-still">
        <p role="status">
          <Words>
            {still.value
              ? interruption(
                  {
                    online,
                    returning: returning.value,
                    late: seconds.value > 0,
                  },
                  theirs.connection,
                  call.peer.name,
                  t,
                )
              : ''}
          </Words>
        </p>
        {seconds.value > 0 && (
          <p class="call-still-for" translate={false}>
            {clock(seconds.value)}
          </p>
        )}
      </div>
      <fieldset
        class="bar"
        aria-label={t.call.controls}
        onPointerEnter={(event) => event.pointerType === 'mouse' && bar.hold('pointer', true)}
        onPointerLeave={(event) => event.pointerType === 'mouse' && bar.hold('pointer', false)}
      >
        <button
          class="control"
          type="button"
          aria-label={t.call.mute}
          aria-pressed={!mine.audio}
          aria-keyshortcuts={shortcuts ? 'm' : undefined}
          title={shortcuts ? `${t.call.mute} (M)` : t.call.mute}
          data-off={!mine.audio}
          onClick={() => call.toggleAudio()}
        >
          {mine.audio ? <MicIcon /> : <MicOffIcon />}
        </button>
        <button
          class="control"
          type="button"
          aria-label={t.call.camera}
          aria-pressed={mine.video}
          aria-keyshortcuts={shortcuts ? 'c' : undefined}
          title={shortcuts ? `${t.call.camera} (C)` : t.call.camera}
          data-off={!mine.video}
          onClick={() => call.toggleVideo()}
        >
          {mine.video ? <VideoIcon /> : <VideoOffIcon />}
        </button>
        <button
          class="control control-stop"
          type="button"
          aria-label={t.call.hangup}
          title={t.call.hangup}
          onClick={() => call.hangup()}
        >
          <HangupIcon />
        </button>
      </fieldset>
    </div>
  )
}

function swallowClick() {
  const stop = (event: Event) => {
    event.stopPropagation()
    event.preventDefault()
  }
  addEventListener('click', stop, { capture: true, once: true })
  // A touch that becomes a drag brings no click.
  setTimeout(() => removeEventListener('click', stop, { capture: true }), 700)
}
