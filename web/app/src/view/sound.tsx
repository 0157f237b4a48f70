import { effect } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import type { CallModel } from '../model/call.ts'

/**
 * The other person's sound. It plays from the ring on, so that nothing has to be started when the call is accepted, and is
 * silent until then.
 */
export function Sound({ call }: { call: CallModel }) {
  const audio = useRef<HTMLAudioElement>(null)

  // At once, and not when the page has been drawn, as all else: by then they have begun to speak.
  useEffect(() => effect(() => play(audio.current, call)), [call])

  return <audio ref={audio} autoPlay muted />
}

function play(element: HTMLAudioElement | null, call: CallModel): void {
  const state = call.state.value
  const silent = state === 'calling' || state === 'ringing' || call.soundBlocked.value
  // Told with each new track, which may need a new start: with the one before the element has come to its end.
  const stream = call.streams.value.remoteAudio
  if (!element) return
  if (element.srcObject !== stream || element.ended) element.srcObject = stream
  element.muted = silent
  element.play().catch((error: unknown) => {
    if (!silent && error instanceof DOMException && error.name === 'NotAllowedError') {
      call.soundBlocked.value = true
    }
  })
}
