import { type Kind, kindOf } from './kinds.ts'

/** What is wrong with a device: the page says so in a sentence. */
export interface DeviceProblem {
  readonly kind: Kind
  /**
   * The person or the browser said no, there is no such device, another program has it, the
   * page is not secure (browsers give devices to https and localhost only), or anything else: the device is not in
   * the call. `replaced`: it has gone, and another one is in the call in its place. `muted` (the system holds it back, as
   * phones do for a phone call) and `silent` (it gives no sound or no picture): it is in the call, and nothing comes of it.
   */
  readonly cause:
    | 'denied'
    | 'missing'
    | 'busy'
    | 'insecure'
    | 'failed'
    | 'replaced'
    | 'muted'
    | 'silent'
}

/** What could be opened, and why the rest could not. */
export interface Opened {
  readonly tracks: readonly MediaStreamTrack[]
  readonly problems: readonly DeviceProblem[]
}

const constraints = {
  audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
  video: {
    facingMode: 'user',
    width: { ideal: 1280 },
    height: { ideal: 720 },
    frameRate: { ideal: 30 },
  },
}

/**
 * Opens the camera as a call does, for people to see themselves while it rings: {@link Call.accept} takes it over. Only
 * where the page was allowed the camera before: nothing is asked. Browsers that cannot say whether it was (Firefox
 * before 131) give none. Never rejects.
 */
export async function openCamera(): Promise<MediaStream | undefined> {
  const track = await openAllowed('video')
  return track && new MediaStream([track])
}

/** Opens a device that the page was allowed before; asks nobody. Never rejects. */
export async function openAllowed(kind: Kind): Promise<MediaStreamTrack | undefined> {
  if (!('mediaDevices' in navigator && 'permissions' in navigator)) return undefined
  const name = kind === 'audio' ? 'microphone' : 'camera'
  const allowed = await navigator.permissions.query({ name }).catch(() => undefined)
  if (allowed?.state !== 'granted') return undefined
  const { tracks } = await open([kind])
  return tracks[0]
}

/**
 * Opens camera and microphone as far as they are to be had: together, so that the person is
 * asked once; if that fails each alone, so that one device never costs the other. Never rejects.
 */
export async function openDevices(kinds: readonly Kind[]): Promise<Opened> {
  const all = await open(kinds)
  if (all.problems.length === 0 || kinds.length < 2) return all
  const tracks: MediaStreamTrack[] = []
  const problems: DeviceProblem[] = []
  for (const kind of kinds) {
    const one = await open([kind])
    tracks.push(...one.tracks)
    problems.push(...one.problems)
  }
  return { tracks, problems }
}

/** Why a track that was running has ended by itself. */
export async function whyEnded(track: MediaStreamTrack): Promise<DeviceProblem> {
  const kind = kindOf(track)
  const { deviceId } = track.getSettings()
  const devices = await navigator.mediaDevices.enumerateDevices().catch(() => [])
  const there = devices.some((device) => device.deviceId === deviceId)
  return { kind, cause: there ? 'failed' : 'missing' }
}

async function open(kinds: readonly Kind[]): Promise<Opened> {
  // A page that is not secure has no mediaDevices, whatever the types say.
  const devices: MediaDevices | undefined = navigator.mediaDevices
  if (!devices) return { tracks: [], problems: kinds.map((kind) => ({ kind, cause: 'insecure' })) }
  try {
    const stream = await devices.getUserMedia({
      audio: kinds.includes('audio') && constraints.audio,
      video: kinds.includes('video') && constraints.video,
    })
    const tracks = stream.getTracks()
    for (const track of tracks) if (kindOf(track) === 'video') track.contentHint = 'motion'
    return { tracks, problems: [] }
  } catch (error) {
    const cause = causeOf(error)
    return { tracks: [], problems: kinds.map((kind) => ({ kind, cause })) }
  }
}

function causeOf(error: unknown): DeviceProblem['cause'] {
  switch (error instanceof Error ? error.name : '') {
    case 'NotAllowedError':
      return 'denied'
    case 'NotFoundError':
    case 'OverconstrainedError':
      return 'missing'
    case 'NotReadableError':
      return 'busy'
    default:
      return 'failed'
  }
}
