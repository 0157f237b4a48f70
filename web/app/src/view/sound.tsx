import { useEffect, useRef } from 'preact/hooks'
import type { CallModel } from '../model/call.ts'

/**
 * The other person's sound. It plays from the ring on, so that nothing has to be started when the call is accepted, and is
 * silent until then.
 */
export function Sound({ call }: { call: CallModel }) {
  const audio = useRef<HTMLAudioElement>(null)
  const stream = call.remoteAudio
  const state = call.state.value
  const silent = state === 'calling' || state === 'ringing' || call.soundBlocked.value
  const [track] = stream.getTracks()

  // Another track may need a new start: with the one before the element has come to its end.
  useEffect(() => {
    const element = audio.current
    if (!element) return
    if (element.srcObject !== stream || element.ended) element.srcObject = stream
    element.muted = silent
    element.play().catch((error: unknown) => {
      if (!silent && error instanceof DOMException && error.name === 'NotAllowedError') {
        call.soundBlocked.value = true
      }
    })
  }, [call, stream, silent, track])

  return <audio ref={audio} autoPlay muted />
}
