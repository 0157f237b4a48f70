import { type DeviceProblem, openAllowed, openDevices, whyEnded } from './devices.ts'
import { type Kind, kindOf, kinds } from './kinds.ts'
import type { Asking } from './wire.ts'

/** What a {@link Capture} asks and tells its call. */
export interface CaptureOwner {
  /** Whether the call can send this kind now. */
  canSend(kind: Kind): boolean
  /** Sends this track from now on, or nothing of this kind. */
  attach(kind: Kind, track: MediaStreamTrack | null): void
  /** The tracks, the requests, the wishes or the problems changed. */
  changed(): void
}

// A device that gives nothing for this long is silent: a camera gives frames in the dark, too, and a microphone noise.
const silentMs = 2500

// If a device has not started by then, the browser probably asks the person. A camera takes a second or two.
const slowRequestMs = 2500

/** How much a device has given, and since when it has given nothing more. */
interface Given {
  readonly total: number
  readonly since: number
  /** It has given something since it was opened or switched on. */
  readonly ever: boolean
}

/** My camera and microphone in one call: what the person wants, the tracks, and the problems. */
export class Capture {
  /** Tracks come and go, the stream stays. */
  readonly stream = new MediaStream()
  readonly #owner: CaptureOwner
  /** What the person wants to send, whether or not there is a device for it. */
  readonly #wanted: Record<Kind, boolean>
  #problems: readonly DeviceProblem[] = []
  #requested: readonly Kind[] = []
  /** The request takes so long that the person is being asked. */
  #requestSlow = false
  readonly #given: Partial<Record<Kind, Given>> = {}
  /** Devices are asked for one request after the other. */
  #queue: Promise<void> = Promise.resolve()

  constructor(owner: CaptureOwner, wanted: Record<Kind, boolean>) {
    this.#owner = owner
    this.#wanted = { ...wanted }
  }

  get wanted(): Readonly<Record<Kind, boolean>> {
    return this.#wanted
  }

  get problems(): readonly DeviceProblem[] {
    return this.#problems
  }

  /** Which kinds the browser was asked for and has not answered yet. */
  get opening(): Readonly<Record<Kind, boolean>> {
    const opening = (kind: Kind) => this.#requested.includes(kind) && this.#wants(kind)
    return { audio: opening('audio'), video: opening('video') }
  }

  /** What the browser seems to ask the person to allow, and has had no answer yet. */
  get asking(): Asking | undefined {
    const { audio, video } = this.opening
    if (!this.#requestSlow || !(audio || video)) return undefined
    return audio && video ? 'both' : audio ? 'audio' : 'video'
  }

  track(kind: Kind): MediaStreamTrack | undefined {
    return this.stream.getTracks().find((track) => kindOf(track) === kind)
  }

  /** Whether what there is of this kind gives nothing. */
  broken(kind: Kind): boolean {
    return this.#problems.some(
      (problem) =>
        problem.kind === kind && (problem.cause === 'muted' || problem.cause === 'silent'),
    )
  }

  /** Says what is wanted, before anything is opened. */
  want(kind: Kind, on: boolean): void {
    this.#wanted[kind] = on
    delete this.#given[kind]
  }

  /** Checks whether the devices give anything, by what they have given so far. It is called a few times a second. */
  checkSources(given: Readonly<Partial<Record<Kind, number>>>): void {
    for (const kind of kinds) {
      const total = given[kind]
      const track = this.track(kind)
      if (total === undefined || !track?.enabled || track.muted) {
        delete this.#given[kind]
        this.#setProblem(kind, 'silent', false)
        continue
      }
      const now = performance.now()
      const before = this.#given[kind]
      const more = before !== undefined && total !== before.total
      const since = more ? now : (before?.since ?? now)
      const ever = more || (before?.ever ?? false)
      this.#given[kind] = { total, since, ever }
      // A headset that cuts out noise gives none between two words.
      const silent = now - since >= silentMs && (kind === 'video' || !ever)
      this.#setProblem(kind, 'silent', silent)
    }
  }

  /** Takes tracks over that run already, instead of opening the devices again. */
  adopt(tracks: readonly MediaStreamTrack[]): void {
    for (const track of tracks) {
      if (this.#wants(kindOf(track)) && !this.track(kindOf(track))) {
        track.enabled = true
        this.#add(track)
      } else {
        track.stop()
      }
    }
  }

  /** Lets go of the tracks without stopping them. */
  release(): MediaStreamTrack[] {
    const tracks = this.stream.getTracks()
    for (const track of tracks) {
      forget(track)
      this.stream.removeTrack(track)
    }
    return tracks
  }

  /** Brings the devices to what is wanted; settles when they have answered. */
  open(): Promise<void> {
    this.#queue = this.#queue.then(async () => {
      const missing = kinds.filter((kind) => this.#wants(kind) && !this.track(kind))
      if (missing.length === 0) return
      this.#requested = missing
      this.#owner.changed()
      const timer = setTimeout(() => {
        this.#requestSlow = true
        this.#owner.changed()
      }, slowRequestMs)
      const { tracks, problems } = await openDevices(missing)
      clearTimeout(timer)
      this.#requestSlow = false
      this.#requested = []
      for (const track of tracks) {
        // In the meantime the call may have ended, or the person changed their mind.
        if (this.#wants(kindOf(track))) this.#add(track)
        else track.stop()
      }
      this.#problems = this.#problems.filter(({ kind }) => !missing.includes(kind))
      for (const problem of problems) this.#report(problem)
      this.#owner.changed()
    })
    return this.#queue
  }

  /** Gives a device back. */
  remove(kind: Kind): void {
    const track = this.track(kind)
    if (!track) return
    forget(track)
    track.stop()
    this.stream.removeTrack(track)
    delete this.#given[kind]
    if (this.broken(kind)) this.#clearProblem(kind)
    this.#owner.attach(kind, null)
    this.#owner.changed()
  }

  /** Gives back what there is no use for. */
  prune(): void {
    for (const kind of kinds) if (!this.#owner.canSend(kind)) this.remove(kind)
  }

  /** Stops everything; the tracks stay in the stream. */
  stop(): void {
    for (const track of this.stream.getTracks()) track.stop()
  }

  #wants(kind: Kind): boolean {
    return this.#owner.canSend(kind) && this.#wanted[kind]
  }

  #add(track: MediaStreamTrack): void {
    const kind = kindOf(track)
    track.onended = () => this.#ended(track)
    track.onmute = () => this.#setProblem(kind, 'muted', true)
    track.onunmute = () => this.#setProblem(kind, 'muted', false)
    delete this.#given[kind]
    this.stream.addTrack(track)
    this.#owner.attach(kind, track)
  }

  /** A device has gone: another one takes its place, if there is one and nobody has to be asked for it. */
  #ended(track: MediaStreamTrack): void {
    const kind = kindOf(track)
    this.remove(kind)
    this.#queue = this.#queue.then(async () => {
      const other = this.#wants(kind) ? await openAllowed(kind) : undefined
      if (other && this.#wants(kind) && !this.track(kind)) {
        this.#add(other)
        this.#putProblem({ kind, cause: 'replaced' })
      } else {
        other?.stop()
        this.#report(await whyEnded(track))
      }
      this.#owner.changed()
    })
  }

  /** A device that is in the call gives nothing, or does again. */
  #setProblem(kind: Kind, cause: 'muted' | 'silent', on: boolean): void {
    const there = this.#problems.some((problem) => problem.kind === kind && problem.cause === cause)
    if (on === there) return
    if (on) this.#putProblem({ kind, cause })
    else this.#clearProblem(kind)
    this.#owner.changed()
  }

  /** A device is not in the call. */
  #report(problem: DeviceProblem): void {
    this.#wanted[problem.kind] = false
    this.#putProblem(problem)
  }

  #putProblem(problem: DeviceProblem): void {
    this.#clearProblem(problem.kind)
    this.#problems = [...this.#problems, problem]
  }

  #clearProblem(kind: Kind): void {
    this.#problems = this.#problems.filter((problem) => problem.kind !== kind)
  }
}

/** What becomes of a track is nothing to us any more. */
function forget(track: MediaStreamTrack): void {
  track.onended = track.onmute = track.onunmute = null
}
