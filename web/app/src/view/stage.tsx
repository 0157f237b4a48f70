import { hue } from '../initials.ts'
import type { App } from '../model/app.ts'
import type { CallModel } from '../model/call.ts'
import { t } from '../strings/pick.ts'
import { Avatar } from './avatar.tsx'
import { InCall } from './call.tsx'
import { MicOffIcon } from './icons.tsx'
import { Ringing } from './ringing.tsx'
import { Sound } from './sound.tsx'
import { Tile } from './tile.tsx'
import { Words } from './words.tsx'
import './stage.css'

/** Where a call is seen, from the first ring to the end: the pictures stay, what lies over them changes. */
export function Stage({ app, call }: { app: App; call: CallModel }) {
  const devices = call.devices.shown.value
  const streams = call.streams.value
  const still = call.interruption.still.value
  const ringing = app.screen.value === 'ringing'
  const swapped = call.layout.swapped.value
  const preview = call.preview.stream.value
  const mine = preview !== undefined || devices.video
  const theirs = !ringing && call.peerMedia.value.video
  // To make what plays their sound and picture takes as long as a frame or two: not at accept, nor before the ring is seen.
  const begun = !ringing || streams.remoteAudio.getTracks().length > 0
  return (
    <main
      class="stage"
      style={{ '--hue': hue(call.peer.id) }}
      data-still={still}
      data-screen={app.screen.value}
      data-waiting={app.waiting.value !== undefined}
      data-bar={call.layout.bar.shown.value ? 'shown' : 'hidden'}
      aria-label={
        ringing && call.direction === 'in'
          ? t.ringing.title(call.peer.name)
          : t.call.with(call.peer.name)
      }
    >
      <div class="stage-glow" />
      {begun && (
        <>
          <Sound call={call} />
          <Tile
            layout={call.layout}
            label={t.call.peerPicture(call.peer.name)}
            place={swapped ? 'corner' : 'stage'}
            stream={streams.remoteVideo}
            picture={theirs}
            still={still}
            hidden={ringing}
            movable
          >
            <Avatar person={call.peer} size={swapped ? 'medium' : 'large'} />
            {!swapped && (
              <p class="tile-words">
                <Words>{standing(call)}</Words>
              </p>
            )}
          </Tile>
        </>
      )}
      {mine && (
        <Tile
          key="mine"
          layout={call.layout}
          label={preview ? t.ringing.preview : t.call.yourPicture}
          place={swapped ? 'stage' : 'corner'}
          stream={preview ?? streams.local}
          picture
          mirrored
          movable={!ringing}
          badge={
            !ringing &&
            !devices.audio && (
              <span class="tile-badge" role="img" aria-label={t.call.youMuted}>
                <MicOffIcon />
              </span>
            )
          }
        />
      )}
      {ringing ? <Ringing app={app} call={call} /> : <InCall app={app} call={call} />}
    </main>
  )
}

// What the avatar stands for while there is no picture.
function standing(call: CallModel): string | undefined {
  const peer = call.peerMedia.value
  const state = call.state.value
  if (state === 'connecting') return t.call.connecting
  if (state !== 'connected' || peer.video) return undefined
  if (peer.asking) return undefined // said above the picture
  if (!call.video.value) return peer.audio ? undefined : t.call.muted(call.peer.name)
  return peer.audio ? t.call.cameraOff(call.peer.name) : t.call.bothOff(call.peer.name)
}
