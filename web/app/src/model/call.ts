import { batch, type ReadonlySignal, type Signal, signal } from '@preact/signals'
import type { CallState, EndDetail, PeerMedia } from 'visavis'
import type { Call } from '../client.ts'
import { Devices } from './devices.ts'
import { Interruption } from './interruption.ts'
import { Layout } from './layout.ts'
import type { Person } from './person.ts'
import { type OpenPreview, Preview } from './preview.ts'

/** The streams that a page plays. They stay the same for the whole call, and their tracks come and go. */
export type Streams = Pick<Call, 'local' | 'remoteAudio' | 'remoteVideo'>

const tickMs = 250

/** A call as the page shows it, from the first ring until it has ended. */
export class CallModel {
  readonly direction: 'in' | 'out'
  readonly devices: Devices
  readonly interruption = new Interruption()
  readonly layout = new Layout()
  readonly preview = new Preview()

  /** Where else the person is in a call, which accepting this one ends. */
  readonly elsewhere = signal<'device' | 'tab' | undefined>(undefined)
  /** Rung, or accepted, with pictures. */
  readonly video = signal(true)
  /** What the person chose on a ringing call, before the server has answered. */
  readonly answered = signal(false)
  readonly ignored = signal(false)
  /** Seconds since accept. */
  readonly seconds = signal(0)
  /** The browser does not play sound before the person has touched the page. */
  readonly soundBlocked = signal(false)

  readonly #call: Call
  readonly #elsewhere: boolean
  readonly #peer: Signal<Person>
  readonly #state = signal<CallState>('calling')
  readonly #peerMedia: Signal<PeerMedia>
  readonly #streams: Signal<Streams>
  readonly #stops: (() => void)[] = []
  readonly #ended: (call: CallModel, end: EndDetail) => void
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
    this.#peerMedia = signal(call.peerMedia)
    this.#streams = signal(streamsOf(call))
    this.direction = call.direction
    this.video.value = call.video
    this.devices = new Devices(call, () => this.#follow())
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

  /** What the other party sends. */
  get peerMedia(): ReadonlySignal<PeerMedia> {
    return this.#peerMedia
  }

  /** Told anew whenever their tracks may be others. */
  get streams(): ReadonlySignal<Streams> {
    return this.#streams
  }

  /** Whether this model shows that call. */
  shows(call: Call): boolean {
    return this.#call === call
  }

  /** The person looks at a call that rings: lets them see themselves before they accept. */
  async look(open: OpenPreview): Promise<void> {
    if (this.direction === 'out' || !this.video.value || !this.#awaitsAnswer()) return
    await this.preview.show(open, () => this.#awaitsAnswer())
  }

  accept(video: boolean): void {
    this.answered.value = true
    this.video.value = video
    this.#call.accept({ video, tracks: this.preview.take() })
  }

  decline(): void {
    this.answered.value = true
    this.preview.stop()
    this.#call.decline()
  }

  /** Silences the call on this device only: it rings on elsewhere. */
  ignore(): void {
    this.ignored.value = true
    this.preview.stop()
  }

  hangup(): void {
    this.#call.hangup()
  }

  toggleAudio(): void {
    this.devices.setAudio(!this.devices.shown.value.audio)
  }

  toggleVideo(): void {
    const on = !this.devices.shown.value.video
    if (on) this.video.value = true
    this.devices.setVideo(on)
  }

  #follow(): void {
    if (this.#over) return
    const call = this.#call
    batch(() => {
      if (call.peer.name !== '') this.#peer.value = { id: call.peer.id, name: call.peer.name }
      this.devices.follow()
      this.#peerMedia.value = call.peerMedia
      this.#streams.value = streamsOf(call)
      this.interruption.follow(call.state)
      if (this.#elsewhere) this.elsewhere.value = call.otherTabInCall ? 'tab' : 'device'
      this.#state.value = call.state
      const { video, problems } = this.devices.shown.value
      this.layout.follow({
        connected: call.state === 'connected',
        mine: video,
        theirs: call.peerMedia.video,
        explained: problems.length > 0 && !this.devices.dismissed.value,
      })
      this.#tick()
    })
    if (call.state === 'connecting') this.preview.stop()
    if (call.state === 'ended') this.#finish(call.end)
  }

  #tick(): void {
    const since = this.#call.acceptedAt
    if (since !== undefined) this.seconds.value = Math.floor((performance.now() - since) / 1000)
    this.interruption.tick(this.#peerMedia.value.connection === 'reloading')
    this.devices.tick()
  }

  #finish(end: EndDetail | undefined): void {
    this.#over = true
    this.preview.stop()
    this.layout.stop()
    for (const stop of this.#stops) stop()
    this.#ended(this, end ?? { reason: 'hungup', by: undefined, durationMs: 0, error: undefined })
  }

  #awaitsAnswer(): boolean {
    return this.#state.value === 'ringing' && !this.answered.value && !this.ignored.value
  }
}

function streamsOf({ local, remoteAudio, remoteVideo }: Call): Streams {
  return { local, remoteAudio, remoteVideo }
}
