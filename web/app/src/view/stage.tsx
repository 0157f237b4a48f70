import { hue } from '../initials.ts'
import type { CallModel } from '../model/call.ts'
import type { Corner, Side } from '../model/layout.ts'
import { t } from '../strings/pick.ts'
import { Avatar } from './avatar.tsx'
import { InCall } from './call.tsx'
import { MicOffIcon } from './icons.tsx'
import { Ringing } from './ringing.tsx'
import { Sound } from './sound.tsx'
import { Tile } from './tile.tsx'
import { Words } from './words.tsx'
import './stage.css'

interface Props {
  call: CallModel
  screen: 'ringing' | 'call'
  /** Rings while the call is on. */
  waiting: CallModel | undefined
  place: string
  /** The server is reached. */
  online: boolean
  /** The server was reached, and is not now. */
  disconnected: boolean
  /** The browser lets the page make no sound. */
  silent: boolean
  /** M and C are keys of the call. */
  shortcuts: boolean
  onAcceptWaiting: () => void
}

/** Where a call is seen, from the first ring to the end: the pictures stay, what lies over them changes. */
export function Stage({ call, screen, ...more }: Props) {
  const devices = call.devices.shown.value
  const streams = call.streams.value
  const still = call.interruption.still.value
  const { layout } = call
  const tile = {
    corner: layout.corner.value,
    onSwap: () => layout.swap(),
    onNudge: (side: Side) => layout.nudge(side),
    onMove: (corner: Corner) => {
      layout.corner.value = corner
    },
  }
  const ringing = screen === 'ringing'
  const swapped = layout.swapped.value
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
      data-screen={screen}
      data-waiting={more.waiting !== undefined}
      data-bar={layout.bar.shown.value ? 'shown' : 'hidden'}
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
            {...tile}
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
          {...tile}
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
      {ringing ? (
        <Ringing
          call={call}
          place={more.place}
          disconnected={more.disconnected}
          silent={more.silent}
        />
      ) : (
        <InCall
          call={call}
          waiting={more.waiting}
          place={more.place}
          online={more.online}
          shortcuts={more.shortcuts}
          onAcceptWaiting={more.onAcceptWaiting}
        />
      )}
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
