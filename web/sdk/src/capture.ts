import { type DeviceProblem, openDevices, whyEnded } from './devices.ts'
import { type Kind, kindOf, kinds } from './kinds.ts'

/** What a {@link Capture} asks and tells its call. */
export interface CaptureOwner {
  /** Whether there is use for this kind. */
  takes(kind: Kind): boolean
  /** What is captured of this kind, now. */
  attach(kind: Kind, track: MediaStreamTrack | null): void
  /** What is captured, asked for, wanted, or in the way has changed. */
  changed(): void
}

/** My camera and microphone, as one call uses them: what is wanted, what there is, and why not more. */
export class Capture {
  /** Tracks come and go, the stream stays. */
  readonly stream = new MediaStream()
  readonly #owner: CaptureOwner
  /** What the person wants to send, whether or not there is a device for it. */
  readonly #wanted: Record<Kind, boolean>
  #problems: readonly DeviceProblem[] = []
  #asked: readonly Kind[] = []
  /** Devices are asked for one request after the other. */
  #asking: Promise<void> = Promise.resolve()

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
    const opening = (kind: Kind) => this.#asked.includes(kind) && this.#wants(kind)
    return { audio: opening('audio'), video: opening('video') }
  }

  track(kind: Kind): MediaStreamTrack | undefined {
    return this.stream.getTracks().find((track) => kindOf(track) === kind)
  }

  /** Says what is wanted, before anything is opened. */
  want(kind: Kind, on: boolean): void {
    this.#wanted[kind] = on
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
      track.onended = null
      this.stream.removeTrack(track)
    }
    return tracks
  }

  /** Brings the devices to what is wanted; settles when they have answered. */
  open(): Promise<void> {
    this.#asking = this.#asking.then(async () => {
      const missing = kinds.filter((kind) => this.#wants(kind) && !this.track(kind))
      if (missing.length === 0) return
      this.#asked = missing
      this.#owner.changed()
      const { tracks, problems } = await openDevices(missing)
      this.#asked = []
      for (const track of tracks) {
        // In the meantime the call may have ended, or the person changed their mind.
        if (this.#wants(kindOf(track))) this.#add(track)
        else track.stop()
      }
      this.#problems = this.#problems.filter(({ kind }) => !missing.includes(kind))
      for (const problem of problems) this.#report(problem)
      this.#owner.changed()
    })
    return this.#asking
  }

  /** Gives a device back. */
  remove(kind: Kind): void {
    const track = this.track(kind)
    if (!track) return
    track.onended = null
    track.stop()
    this.stream.removeTrack(track)
    this.#owner.attach(kind, null)
    this.#owner.changed()
  }

  /** Gives back what there is no use for. */
  prune(): void {
    for (const kind of kinds) if (!this.#owner.takes(kind)) this.remove(kind)
  }

  /** Stops everything; the tracks stay in the stream. */
  stop(): void {
    for (const track of this.stream.getTracks()) track.stop()
  }

  #wants(kind: Kind): boolean {
    return this.#owner.takes(kind) && this.#wanted[kind]
  }

  #add(track: MediaStreamTrack): void {
    const kind = kindOf(track)
    track.onended = async () => {
      this.remove(kind)
      this.#report(await whyEnded(track))
      this.#owner.changed()
    }
    this.stream.addTrack(track)
    this.#owner.attach(kind, track)
  }

  #report(problem: DeviceProblem): void {
    this.#wanted[problem.kind] = false
    this.#problems = [...this.#problems.filter(({ kind }) => kind !== problem.kind), problem]
  }
}
