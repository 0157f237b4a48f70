import { batch, type ReadonlySignal, type Signal, signal } from '@preact/signals'
import type { CallState, DeviceProblem, EndDetail } from 'visavis'
import type { Call } from '../client.ts'
import { Bar } from './bar.ts'
import type { Person } from './person.ts'

export type Corner = 'top-left' | 'top-right' | 'bottom-left' | 'bottom-right'

/** How the two parties' media stand: a copy of what the SDK says, taken whenever it says that something changed. */
export interface Media {
  readonly audio: boolean
  readonly video: boolean
  readonly peer: Call['peerMedia']
  readonly problems: readonly DeviceProblem[]
  /** The browser asks the person for these and waits for an answer. */
  readonly asking: { readonly audio: boolean; readonly video: boolean }
}

/** Takes a picture of the person from their own camera, or gives nothing where it was not allowed before. */
export type Preview = () => Promise<MediaStream | undefined>

/** After so long a standstill is told. The SDK takes as long for its own; a page that is loaded anew is known at once. */
export const standstillToldMs = 1000
/** A picture that stands still for this long gets a line that counts the seconds. */
export const standstillShownMs = 5000

/** A device that has not started by then is one that the person is asked for: a camera takes a second or two. */
export const askingToldMs = 2500

const tickMs = 250

/** A call as the page shows it, from the first ring until it has ended. */
export class CallModel {
  readonly direction: 'in' | 'out'
  readonly local: MediaStream
  readonly remoteAudio: MediaStream
  readonly remoteVideo: MediaStream
  readonly bar = new Bar()

  /** Where else the person is in a call, which accepting this one ends. */
  readonly elsewhere = signal<'device' | 'tab' | undefined>(undefined)
  /** Rung, or accepted, with pictures. */
  readonly video = signal(true)
  /** What the person chose on a ringing call, before the server has answered. */
  readonly answered = signal(false)
  readonly ignored = signal(false)
  /** Seconds since accept. */
  readonly seconds = signal(0)
  /** The page was loaded anew in the midst of this call, and has no media yet. */
  readonly returning = signal(false)
  /** The picture stands still, and it is time to say so. */
  readonly still = signal(false)
  /** Seconds it has stood still; 0 before they are worth showing. */
  readonly standstill = signal(0)
  readonly swapped = signal(false)
  readonly corner = signal<Corner>('bottom-right')
  /** The browser does not play sound before the person has touched the page. */
  readonly soundBlocked = signal(false)
  /** The person has read what is the matter with their devices. */
  readonly dismissed = signal(false)
  readonly preview = signal<MediaStream | undefined>(undefined)

  readonly #call: Call
  readonly #elsewhere: boolean
  readonly #peer: Signal<Person>
  readonly #state = signal<CallState>('calling')
  readonly #media = signal<Media>({
    audio: false,
    video: false,
    peer: { audio: false, video: false, connection: 'connecting' },
    problems: [],
    asking: { audio: false, video: false },
  })
  readonly #stops: (() => void)[] = []
  readonly #ended: (call: CallModel, end: EndDetail) => void
  /** What a button was pressed for, until the device has answered. */
  readonly #expected: { audio?: boolean; video?: boolean } = {}
  #stalledAt = 0
  /** Since when a device has been asked for. */
  #openingAt: number | undefined
  /** This page has had media. */
  #connected = false
  #over = false

  /**
   * `known` is how the page names the peer where the SDK does not know them yet; `beside` says that it rings beside a
   * call on this page.
   */
  constructor(
    call: Call,
    ended: (call: CallModel, end: EndDetail) => void,
    { known = '', beside = false }: { known?: string | undefined; beside?: boolean } = {},
  ) {
    this.#call = call
    this.#ended = ended
    this.#peer = signal({ id: call.peer.id, name: call.peer.name || known })
    this.direction = call.direction
    this.local = call.local
    this.remoteAudio = call.remoteAudio
    this.remoteVideo = call.remoteVideo
    this.video.value = call.video
    this.#elsewhere = call.waiting && !beside
    this.#stops.push(
      call.on('state', () => this.#follow()),
      call.on('media', () => this.#follow()),
    )
    const timer = setInterval(() => this.#tick(), tickMs)
    this.#stops.push(() => clearInterval(timer))
    this.#follow()
  }

  get peer(): Person {
    return this.#peer.value
  }

  get state(): ReadonlySignal<CallState> {
    return this.#state
  }

  get media(): ReadonlySignal<Media> {
    return this.#media
  }

  /** Whether this model shows that call. */
  shows(call: Call): boolean {
    return this.#call === call
  }

  /** The person looks at a call that rings: lets them see themselves before they accept. */
  async look(preview: Preview): Promise<void> {
    if (this.direction === 'out' || !this.video.value || !this.#awaitsAnswer()) return
    const stream = await preview().catch(() => undefined)
    if (this.#awaitsAnswer()) {
      this.preview.value = stream
    } else {
      stopTracks(stream)
    }
  }

  accept(video: boolean): void {
    this.answered.value = true
    this.video.value = video
    const tracks = this.preview.value?.getTracks() ?? []
    this.preview.value = undefined
    this.#call.accept({ video, tracks })
  }

  decline(): void {
    this.answered.value = true
    this.#stopPreview()
    this.#call.decline()
  }

  /** Silences the call on this device only: it rings on elsewhere. */
  ignore(): void {
    this.ignored.value = true
    this.#stopPreview()
  }

  hangup(): void {
    this.#call.hangup()
  }

  toggleAudio(): void {
    const on = !this.#media.value.audio
    this.#expect('audio', on, this.#call.setAudio(on))
  }

  toggleVideo(): void {
    const on = !this.#media.value.video
    if (on) this.video.value = true
    this.#expect('video', on, this.#call.setVideo(on))
  }

  swap(): void {
    this.swapped.value = !this.swapped.value
    this.#letBarHide()
  }

  dismiss(): void {
    this.dismissed.value = true
    this.#letBarHide()
  }

  /** Moves the small picture by keyboard, to the neighbouring corner in that direction. */
  nudge(side: 'left' | 'right' | 'top' | 'bottom'): void {
    const corner = this.corner.value
    const top = corner.startsWith('top')
    const left = corner.endsWith('left')
    const vertical = side === 'top' || (side !== 'bottom' && top) ? 'top' : 'bottom'
    const horizontal = side === 'left' || (side !== 'right' && left) ? 'left' : 'right'
    this.corner.value = `${vertical}-${horizontal}`
  }

  // The button answers at once. Why a device did not start then stands in `problems`.
  #expect(kind: 'audio' | 'video', on: boolean, change: Promise<void>): void {
    this.dismissed.value = false
    this.#expected[kind] = on
    this.#follow()
    const settled = () => {
      if (this.#expected[kind] === on) delete this.#expected[kind]
      this.#follow()
    }
    change.then(settled, settled)
  }

  /** A device that was asked for is shown as if it were on. */
  #shows(kind: 'audio' | 'video'): boolean {
    const { micOn, cameraOn, opening } = this.#call
    const sent = kind === 'audio' ? micOn : cameraOn
    if (this.#asks(kind)) return sent
    return this.#expected[kind] ?? (sent || opening[kind])
  }

  #asks(kind: 'audio' | 'video'): boolean {
    const since = this.#openingAt ?? performance.now()
    return this.#call.opening[kind] && performance.now() - since >= askingToldMs
  }

  #follow(): void {
    if (this.#over) return
    const call = this.#call
    const before = this.#state.value
    batch(() => {
      const { audio, video } = call.opening
      this.#openingAt = audio || video ? (this.#openingAt ?? performance.now()) : undefined
      if (call.peer.name !== '') this.#peer.value = { id: call.peer.id, name: call.peer.name }
      this.#media.value = {
        audio: this.#shows('audio'),
        video: this.#shows('video'),
        peer: call.peerMedia,
        problems: call.problems,
        asking: { audio: this.#asks('audio'), video: this.#asks('video') },
      }
      if (!this.#media.value.video) this.swapped.value = false
      if (call.state === 'reconnecting' && before !== 'reconnecting') {
        this.#stalledAt = performance.now()
      }
      if (this.#elsewhere) this.elsewhere.value = call.otherTabInCall ? 'tab' : 'device'
      this.#state.value = call.state
      this.#connected ||= call.state === 'connected'
      this.returning.value = call.state === 'reconnecting' && !this.#connected
      this.#letBarHide()
      this.#tick()
    })
    if (call.state === 'connecting') this.#stopPreview()
    if (call.state === 'ended') this.#finish(call.end)
  }

  // Only from before a picture, and not while a sentence speaks of its buttons.
  #letBarHide(): void {
    const { peer, problems } = this.#media.value
    const picture = this.#state.value === 'connected' && (peer.video || this.swapped.value)
    this.bar.mayHide(picture && (problems.length === 0 || this.dismissed.value))
  }

  #tick(): void {
    const now = performance.now()
    const since = this.#call.acceptedAt
    if (since !== undefined) this.seconds.value = Math.floor((now - since) / 1000)
    const stalls = this.#state.value === 'reconnecting'
    const still = stalls ? now - this.#stalledAt : 0
    const quickly = this.#media.value.peer.connection === 'reloading' && !this.returning.value
    this.still.value = stalls && still >= (quickly ? standstillToldMs : 0)
    const { asking } = this.#media.value
    if (this.#asks('audio') !== asking.audio || this.#asks('video') !== asking.video) {
      queueMicrotask(() => this.#follow())
    }
    this.standstill.value = still < standstillShownMs ? 0 : Math.floor(still / 1000)
  }

  #finish(end: EndDetail | undefined): void {
    this.#over = true
    this.#stopPreview()
    this.bar.stop()
    for (const stop of this.#stops) stop()
    this.#ended(this, end ?? { reason: 'hungup', by: undefined, durationMs: 0, error: undefined })
  }

  #awaitsAnswer(): boolean {
    return this.#state.value === 'ringing' && !this.answered.value && !this.ignored.value
  }

  #stopPreview(): void {
    stopTracks(this.preview.value)
    this.preview.value = undefined
  }
}

function stopTracks(stream: MediaStream | undefined): void {
  for (const track of stream?.getTracks() ?? []) track.stop()
}
