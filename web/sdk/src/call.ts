import { type DeviceProblem, openDevices, whyEnded } from './devices.ts'
import { VisavisError } from './error.ts'
import { Emitter } from './events.ts'
import { type Kind, kindOf, kinds, Peer } from './peer.ts'
import type {
  CallMessage,
  ClientMessage,
  EndReason,
  MediaConnection,
  MediaMessage,
} from './wire.ts'

/** Where a call stands, as seen from here. */
export type CallState =
  /** Out: the server looks for the callee. */
  | 'calling'
  /** Out: a device of theirs rings. In: it rings here. */
  | 'ringing'
  /** Accepted; media is not up yet. */
  | 'connecting'
  | 'connected'
  /** Media was up and stands still. */
  | 'reconnecting'
  | 'ended'

/** How a call ended. */
export interface EndDetail {
  /** The server's reason; or another device of mine acted; or an error, which says which. */
  readonly reason: EndReason | 'elsewhere-accepted' | 'elsewhere-declined' | 'error'
  /** Whose act ended it, if one did. */
  readonly by: 'me' | 'peer' | undefined
  /** Time since accept. */
  readonly durationMs: number
  readonly error: VisavisError | undefined
}

/** How the other party's side stands: what they send, and whether their media flows. */
export interface PeerMedia {
  readonly audio: boolean
  readonly video: boolean
  readonly connection: MediaConnection
}

/** What a {@link Call} tells. */
export interface CallEvents {
  /** The state changed; `reason` once it ended. */
  state: { old: CallState; new: CallState; reason: EndDetail | undefined }
  /** `local`, `remote`, `audio`, `videoOn`, `peerMedia` or `problems` changed. */
  media: undefined
}

/** What a call needs of the client that it belongs to. */
export interface CallLine {
  readonly iceTransportPolicy: RTCIceTransportPolicy
  /** My id. */
  me(): string | undefined
  /** The servers of the welcome, for a call that brings none of its own. */
  iceServers(): readonly RTCIceServer[]
  send(message: ClientMessage): void
  ended(call: Call): void
}

/** What the client tells a call. */
export interface CallInput {
  /** The ring was sent. */
  rang(): void
  /** What the server says of this call. */
  receive(message: CallMessage): void
  /** The server refused the ring, or something else of this call. */
  refused(error: VisavisError): void
  /** The session is gone, and with it a call that nobody has accepted. */
  sessionLost(error: VisavisError): void
}

/** What is known of a call when it begins. */
export interface CallBeginning {
  readonly direction: 'in' | 'out'
  readonly peer: { readonly id: string; readonly name: string }
  readonly video: boolean
  /** In only: the server has named it already. */
  readonly id?: string
  readonly ringMs?: number
  readonly iceServers?: readonly RTCIceServer[]
}

/**
 * One attempt to talk to one person, from ring to end. {@link Visavis.ring} makes one, the event
 * `ring` brings one; it never comes back from `ended`.
 */
export class Call extends Emitter<CallEvents> {
  /** Whether I rang (`out`) or was rung (`in`). */
  readonly direction: 'in' | 'out'
  /** Rung as a video call. */
  readonly video: boolean
  /** My camera and microphone: tracks come and go, the stream stays. */
  readonly local = new MediaStream()
  /** The other party's tracks: the same stream for the whole call. */
  readonly remote = new MediaStream()

  readonly #line: CallLine
  #id: string | undefined
  #peer: { readonly id: string; readonly name: string }
  #state: CallState
  #end: EndDetail | undefined
  #acceptedAt: number | undefined
  #ringsUntil: number | undefined
  #iceServers: readonly RTCIceServer[]
  #connection: Peer | undefined
  /** What the person wants to send, whether or not there is a device for it. */
  readonly #wanted: Record<Kind, boolean>
  #problems: readonly DeviceProblem[] = []
  /** Devices are asked for one request after the other. */
  #asking: Promise<void> = Promise.resolve()
  #peerMedia: PeerMedia = { audio: false, video: false, connection: 'connecting' }
  #toldMedia: MediaMessage | undefined

  private constructor(line: CallLine, beginning: CallBeginning) {
    super()
    this.#line = line
    this.direction = beginning.direction
    this.video = beginning.video
    this.#id = beginning.id
    this.#peer = beginning.peer
    this.#state = beginning.direction === 'out' ? 'calling' : 'ringing'
    this.#iceServers = beginning.iceServers ?? []
    if (beginning.ringMs !== undefined) this.#ringsUntil = performance.now() + beginning.ringMs
    this.#wanted = { audio: true, video: beginning.video }
  }

  /** A new call, and what its client alone may tell it. @internal */
  static begin(line: CallLine, beginning: CallBeginning): { call: Call; input: CallInput } {
    const call = new Call(line, beginning)
    const input: CallInput = {
      rang: () => call.#rang(),
      receive: (message) => call.#receive(message),
      refused: (error) => call.#refused(error),
      sessionLost: (error) => call.#sessionLost(error),
    }
    return { call, input }
  }

  /** The server's name for it; undefined until it has one. */
  get id(): string | undefined {
    return this.#id
  }

  /** The other party. */
  get peer(): { readonly id: string; readonly name: string } {
    return this.#peer
  }

  get state(): CallState {
    return this.#state
  }

  /** How it ended, once it has. */
  get end(): EndDetail | undefined {
    return this.#end
  }

  /** When it was accepted, by performance.now(). */
  get acceptedAt(): number | undefined {
    return this.#acceptedAt
  }

  /** When it stops ringing, by performance.now(). */
  get ringsUntil(): number | undefined {
    return this.#ringsUntil
  }

  /** Whether my microphone is sent. */
  get audio(): boolean {
    return this.#sends('audio')
  }

  /** Whether my camera is sent. */
  get videoOn(): boolean {
    return this.#sends('video')
  }

  /** How the other party's side stands. */
  get peerMedia(): PeerMedia {
    return this.#peerMedia
  }

  /** Which devices are not in the call, and why. */
  get problems(): readonly DeviceProblem[] {
    return this.#problems
  }

  /** Takes a call that rings here, with a camera if `video` (default: as it was rung). */
  accept(options: { video?: boolean } = {}): void {
    if (this.direction === 'out' || this.#state !== 'ringing' || this.#id === undefined) return
    this.#wanted.video = options.video ?? this.video
    this.#line.send({ type: 'accept', call: this.#id })
    this.#connection = this.#open()
    this.#change('connecting')
    void this.#openDevices()
  }

  /** Refuses a call that rings here, on all my devices. */
  decline(): void {
    if (this.direction === 'out' || this.#state !== 'ringing' || this.#id === undefined) return
    this.#line.send({ type: 'decline', call: this.#id })
    this.#finish({ reason: 'declined', by: 'me' })
  }

  /** Ends the call: cancels, declines or hangs up; nothing is captured or sent afterwards. */
  hangup(): void {
    if (this.#state === 'ended') return
    if (this.direction === 'in' && this.#state === 'ringing') {
      this.decline()
      return
    }
    this.#sendHangup()
    const accepted = this.direction === 'in' || this.#acceptedAt !== undefined
    this.#finish({ reason: accepted ? 'hungup' : 'canceled', by: 'me' })
  }

  /** Mutes, or speaks again; asks for the microphone if there is none. Settles when that is done. */
  async setAudio(on: boolean): Promise<void> {
    this.#wanted.audio = on
    const track = this.#track('audio')
    if (track) {
      track.enabled = on
      this.#mediaChanged()
    } else {
      await this.#openDevices()
    }
  }

  /** Stops the camera, or asks for it again; negotiates nothing. Settles when that is done. */
  async setVideo(on: boolean): Promise<void> {
    this.#wanted.video = on
    if (on) await this.#openDevices()
    else this.#remove('video')
  }

  /** The browser's figures; empty before there is a connection. */
  async stats(): Promise<RTCStatsReport> {
    return (await this.#connection?.stats()) ?? new Map()
  }

  #rang(): void {
    this.#connection = this.#open()
    void this.#openDevices()
  }

  #receive(message: CallMessage): void {
    switch (message.type) {
      case 'calling':
        this.#id = message.call
        if (this.#state === 'ended') {
          this.#sendHangup()
          return
        }
        this.#peer = { id: message.to.id, name: message.to.name }
        this.#ringsUntil = performance.now() + message.ringMs
        this.#iceServers = message.iceServers
        this.#connection?.offer(this.#servers())
        return
      case 'ringing':
        if (this.#state === 'calling') this.#change('ringing')
        return
      case 'accept':
        // A call that rings here is accepted by the person here, and by nothing else.
        if (this.#state === 'ended' || !this.#connection) return
        this.#acceptedAt ??= performance.now()
        if (this.#state === 'calling' || this.#state === 'ringing') this.#change('connecting')
        this.#tellMedia()
        return
      case 'elsewhere':
        this.#finish({ reason: `elsewhere-${message.act}`, by: 'me' })
        return
      case 'offer':
      case 'answer':
        this.#connection?.receive(message.description)
        return
      case 'candidate':
        this.#connection?.addCandidates(message.candidates)
        return
      case 'media':
        this.#peerMedia = {
          audio: message.audio,
          video: message.video,
          connection: message.connection,
        }
        this.emit('media', undefined)
        return
      case 'ended': {
        const { reason, by, durationMs } = message
        const who = by === this.#line.me() ? 'me' : 'peer'
        this.#finish({ reason, by: by === undefined ? undefined : who, durationMs })
        return
      }
      default:
        message satisfies never
    }
  }

  #refused(error: VisavisError): void {
    if (this.#id === undefined || (this.direction === 'in' && this.#acceptedAt === undefined)) {
      this.#finish({ reason: 'error', error })
    } else if (error.code === 'unknown_call') {
      this.#finish({ reason: 'lost' })
    } else if (error.code === 'bad_description') {
      this.#giveUp(error)
    }
  }

  #sessionLost(error: VisavisError): void {
    if (this.#acceptedAt === undefined) this.#finish({ reason: 'error', error })
  }

  #open(): Peer {
    return new Peer({
      polite: this.direction === 'in',
      iceTransportPolicy: this.#line.iceTransportPolicy,
      iceServers: this.#servers(),
      local: this.local,
      remote: this.remote,
      owner: {
        describe: (description) => {
          if (this.#id === undefined) return
          this.#line.send({ type: description.type, call: this.#id, description })
        },
        trickle: (candidates) => {
          if (this.#id === undefined) return
          this.#line.send({ type: 'candidate', call: this.#id, candidates })
        },
        connectionChanged: (state) => this.#connectionChanged(state),
        tracksChanged: () => this.#tracksChanged(),
        told: (text) => this.#told(text),
        broke: () =>
          this.#giveUp(new VisavisError('bad_description', 'The connection cannot be made.')),
      },
    })
  }

  #servers(): readonly RTCIceServer[] {
    return this.#iceServers.length > 0 ? this.#iceServers : this.#line.iceServers()
  }

  #connectionChanged(state: RTCPeerConnectionState): void {
    if (state === 'connected') this.#change('connected')
    const stands = state === 'disconnected' || state === 'failed'
    if (stands && this.#state === 'connected') this.#change('reconnecting')
    this.#mediaChanged()
  }

  #tracksChanged(): void {
    for (const kind of kinds) if (!this.#carries(kind)) this.#remove(kind)
    this.#mediaChanged()
  }

  /** The other party's hang-up also comes on the data channel: the first counts. */
  #told(text: string): void {
    if (this.#id === undefined || text !== lastWord(this.#id)) return
    this.#sendHangup()
    this.#finish({ reason: 'hungup', by: 'peer' })
  }

  #giveUp(error: VisavisError): void {
    this.#sendHangup()
    this.#finish({ reason: 'error', error })
  }

  #sendHangup(): void {
    if (this.#id !== undefined) this.#line.send({ type: 'hangup', call: this.#id })
  }

  #finish(end: Pick<EndDetail, 'reason'> & Partial<EndDetail>): void {
    if (this.#state === 'ended') return
    const { reason, by, error } = end
    const lasted = this.#acceptedAt === undefined ? 0 : performance.now() - this.#acceptedAt
    this.#end = { reason, by, error, durationMs: end.durationMs ?? Math.round(lasted) }
    for (const track of this.local.getTracks()) track.stop()
    this.#connection?.close(this.#id === undefined ? undefined : lastWord(this.#id))
    this.#change('ended')
    this.#line.ended(this)
  }

  #change(state: CallState): void {
    const old = this.#state
    if (old === state || old === 'ended') return
    this.#state = state
    this.emit('state', { old, new: state, reason: this.#end })
  }

  /** Brings the devices to what is wanted, one request after the other. */
  #openDevices(): Promise<void> {
    this.#asking = this.#asking.then(async () => {
      const missing = kinds.filter((kind) => this.#wants(kind) && !this.#track(kind))
      if (missing.length === 0) return
      const { tracks, problems } = await openDevices(missing)
      for (const track of tracks) {
        // In the meantime the call may have ended, or the person changed their mind.
        if (this.#wants(kindOf(track))) this.#add(track)
        else track.stop()
      }
      this.#problems = this.#problems.filter(({ kind }) => !missing.includes(kind))
      for (const problem of problems) this.#report(problem)
      this.#mediaChanged()
    })
    return this.#asking
  }

  #wants(kind: Kind): boolean {
    return (
      this.#connection !== undefined &&
      this.#state !== 'ended' &&
      this.#carries(kind) &&
      this.#wanted[kind]
    )
  }

  #carries(kind: Kind): boolean {
    return this.#connection?.carries(kind) ?? true
  }

  #track(kind: Kind): MediaStreamTrack | undefined {
    return this.local.getTracks().find((track) => kindOf(track) === kind)
  }

  #sends(kind: Kind): boolean {
    return this.#state !== 'ended' && this.#carries(kind) && (this.#track(kind)?.enabled ?? false)
  }

  #add(track: MediaStreamTrack): void {
    const kind = kindOf(track)
    track.onended = async () => {
      this.#remove(kind)
      this.#report(await whyEnded(track))
      this.#mediaChanged()
    }
    this.local.addTrack(track)
    this.#connection?.setTrack(kind, track)
  }

  #remove(kind: Kind): void {
    const track = this.#track(kind)
    if (!track) return
    track.stop()
    this.local.removeTrack(track)
    this.#connection?.setTrack(kind, null)
    this.#mediaChanged()
  }

  #report(problem: DeviceProblem): void {
    this.#wanted[problem.kind] = false
    this.#problems = [...this.#problems.filter(({ kind }) => kind !== problem.kind), problem]
  }

  #mediaChanged(): void {
    if (this.#state === 'ended') return
    this.emit('media', undefined)
    this.#tellMedia()
  }

  #tellMedia(): void {
    if (this.#id === undefined || this.#acceptedAt === undefined) return
    const media: MediaMessage = {
      type: 'media',
      call: this.#id,
      connection: this.#mediaConnection(),
      audio: this.audio,
      video: this.videoOn,
    }
    const told = this.#toldMedia
    if (
      told?.connection === media.connection &&
      told.audio === media.audio &&
      told.video === media.video
    ) {
      return
    }
    this.#toldMedia = media
    this.#line.send(media)
  }

  #mediaConnection(): MediaConnection {
    if (this.#state === 'connected' || this.#state === 'reconnecting') return this.#state
    return 'connecting'
  }
}

/** What a party says on the data channel as it hangs up. */
function lastWord(call: string): string {
  return JSON.stringify({ hangup: call })
}
