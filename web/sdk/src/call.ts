import type { CallBeginning, CallInput, CallOwner, CallTicket, LocalEnd } from './call-owner.ts'
import { Capture } from './capture.ts'
import type { DeviceProblem } from './devices.ts'
import { VisavisError } from './error.ts'
import { Emitter } from './events.ts'
import type { Kind } from './kinds.ts'
import { hasRelay, Link } from './link.ts'
import type { SavedCall } from './memory.ts'
import { Remote } from './remote.ts'
import type {
  AcceptMessage,
  Asking,
  CallMessage,
  ClientMessage,
  Detail,
  EndReason,
  MediaConnection,
  MediaMessage,
  MergedMessage,
  RejoinMessage,
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
  /** Media was up and stands still, or the page was loaded anew. */
  | 'reconnecting'
  | 'ended'

/** How a call ended. */
export interface EndDetail {
  /** The server's reason; or another device of mine acted; or an error, which says which. */
  readonly reason: EndReason | 'elsewhere-accepted' | 'elsewhere-declined' | 'error'
  /** Whose act ended it, if one did; of a call that is `lost` the one who closed the page. */
  readonly by: 'me' | 'peer' | undefined
  /** Time since accept. */
  readonly durationMs: number
  readonly error: VisavisError | undefined
  /** Why it `failed`, as far as one of the two could tell. */
  readonly detail?: Detail | undefined
  /** That other device is this one: another tab of this browser acted. */
  readonly tab?: true
}

/** How the other party's side stands: what they send, and whether their media flows. */
export interface PeerMedia {
  readonly audio: boolean
  readonly video: boolean
  /** `reloading`: their page is loaded anew, and they come back with it. */
  readonly connection: MediaConnection
  /** Their browser asks them to allow these devices. */
  readonly asking?: Asking | undefined
}

/** The events of a {@link Call}, and what a listener gets with each. */
export interface CallEvents {
  /** The state of the call changed from `old` to `new`. Once the call has `ended`, `reason` says how. */
  state: {
    readonly old: CallState
    readonly new: CallState
    readonly reason: EndDetail | undefined
  }
  /**
   * A property of the call changed: `micOn`, `cameraOn`, `opening`, `problems`, `peerMedia`, `otherTabInCall`, or the
   * tracks in `local`, `remote`, `remoteAudio` or `remoteVideo`. The event does not say which one.
   */
  media: undefined
}

// What another tab of this browser says takes at most about this long.
const tabMs = 100
// A call that has no connection by then will probably fail. It tells the server why, which ends it after connectMs.
const connectOverdueMs = 10_000
// Credentials of the relay live for an hour at most. The server sends fresh ones; this is for one that does not.
const refreshMs = 25 * 60_000

/**
 * One attempt to talk to one person, from ring to end. {@link Visavis.ring} makes one, the event
 * `ring` brings one, and so does a page that was loaded anew; it never comes back from `ended`.
 */
export class Call extends Emitter<CallEvents> {
  /** Whether I rang (`out`) or was rung (`in`). */
  readonly direction: 'in' | 'out'
  /** Rung as a video call. */
  readonly video: boolean
  readonly #owner: CallOwner
  readonly #capture: Capture
  readonly #remote = new Remote()
  readonly #link: Link
  /** I hide my addresses in this call, though not in every one. */
  readonly #relayOnly: boolean
  #waiting: boolean
  #otherTabInCall = false
  #id: string | undefined
  /** The call that this one goes on as, before the server has put us into it. */
  #next: string | undefined
  #nextTimer: ReturnType<typeof setTimeout> | undefined
  #ticket: string | undefined
  #peer: { readonly id: string; readonly name: string }
  #state: CallState
  #end: EndDetail | undefined
  #acceptedAt: number | undefined
  #ringsUntil: number | undefined
  #iceServers: readonly RTCIceServer[]
  #iceServersAt = performance.now()
  #peerMedia: PeerMedia = { audio: false, video: false, connection: 'connecting' }
  /** The page that this connection goes to has said that it is connected, and that it is no more. */
  #peerWasConnected = false
  #peerReloading = false
  #sentMedia: MediaMessage | undefined
  /** Since when neither the other party nor the server can be reached. */
  #unreachableSince: number | undefined
  /** This page took up the call of the page before it, and is not connected yet. */
  #reloaded = false
  /** The session is new, and not in the call before the server has answered the ticket. Messages wait until then. */
  #rejoining = false
  #pendingMessages: ClientMessage[] = []

  private constructor(owner: CallOwner, beginning: CallBeginning) {
    super()
    this.#owner = owner
    const from = origin(beginning)
    this.direction = from.direction
    this.video = from.video
    this.#waiting = beginning.how === 'in' && beginning.ring.waiting
    this.#state = from.direction === 'out' ? 'calling' : 'ringing'
    this.#peer = from.peer
    this.#id = from.call
    this.#iceServers = from.iceServers
    if (from.ringMs > 0) this.#ringsUntil = performance.now() + from.ringMs
    const saved = beginning.how === 'rejoined' ? beginning.saved : undefined
    this.#relayOnly = saved?.relayOnly ?? hidesFrom(beginning, owner)
    this.#capture = new Capture(
      {
        canSend: (kind) => this.#canSend(kind),
        attach: (kind, track) => this.#link.setTrack(kind, track),
        changed: () => this.#mediaChanged(),
      },
      { audio: saved?.audio ?? true, video: saved?.video ?? from.video },
    )
    this.#link = new Link({
      polite: from.direction === 'in',
      iceTransportPolicy: this.#relayOnly ? 'relay' : owner.iceTransportPolicy(),
      lastTransport: owner.lastTransport(),
      early: owner.early,
      local: this.local,
      remote: this.#remote,
      owner: {
        timings: () => owner.timings(),
        iceServers: () => (this.#iceServers.length > 0 ? this.#iceServers : owner.iceServers()),
        track: (kind) => this.#capture.track(kind),
        sourcesMeasured: (given) => this.#capture.checkSources(given),
        mediaExpected: () => this.#peerMedia.audio || this.#peerMedia.video,
        reachable: () => owner.online() && !this.#rejoining && !this.#peerReloading,
        send: (message) => {
          if (this.#id !== undefined) this.#send({ ...message, call: this.#id })
        },
        check: () => {
          if (!this.#peerReloading) owner.check()
        },
        transportWorked: (transport) => owner.transportWorked(transport),
        renewed: () => {
          this.#peerWasConnected = this.#peerReloading = false
          this.#remember()
        },
        changed: () => this.#updateState(),
        tracksChanged: () => {
          this.#capture.prune()
          this.#mediaChanged()
        },
        dataReceived: (text) => this.#dataReceived(text),
        negotiationFailed: (error) => this.#negotiationFailed(error),
        tick: () => this.#tick(),
      },
    })
    if (beginning.how === 'rejoined') this.#restore(beginning.rejoin, saved)
    if (beginning.how === 'in' && beginning.early) this.#link.begin()
  }

  /** A new call, and the methods of it that only the client calls. @internal */
  static begin(owner: CallOwner, beginning: CallBeginning): { call: Call; input: CallInput } {
    const call = new Call(owner, beginning)
    const input: CallInput = {
      ringSent: () => call.#ringSent(),
      receive: (message) => call.#receive(message),
      merged: (message, iceServers) => call.#merged(message, iceServers),
      continuesAs: (id) => id === (call.#next ?? call.#id),
      rejoined: (message) => call.#rejoined(message),
      refused: (error) => call.#refused(error),
      sessionLost: (error, final) => call.#sessionLost(error, final),
      serverReached: (lost) => call.#serverReached(lost),
      networkChanged: (change) => void call.#link.networkChanged(change),
      handOver: () => call.#handOver(),
      otherTabInCall: () => {
        call.#otherTabInCall = true
        call.emit('media', undefined)
      },
      otherCallEnded: () => {
        call.#waiting = false
      },
    }
    return { call, input }
  }

  /** The server's name for it; undefined until it has one. */
  get id(): string | undefined {
    return this.#id
  }

  /** It rings while another call is on, which accepting it ends. */
  get waiting(): boolean {
    return this.#waiting
  }

  /** The other call is in another tab of this browser; `media` tells when that is found out. */
  get otherTabInCall(): boolean {
    return this.#otherTabInCall
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

  /** When it was accepted, by performance.now(); before this page was loaded, perhaps. */
  get acceptedAt(): number | undefined {
    return this.#acceptedAt
  }

  /** When it stops ringing, by performance.now(). */
  get ringsUntil(): number | undefined {
    return this.#ringsUntil
  }

  /** My camera and microphone: tracks come and go, the stream stays. */
  get local(): MediaStream {
    return this.#capture.stream
  }

  /** The other party's tracks: the same stream for the whole call. */
  get remote(): MediaStream {
    return this.#remote.both
  }

  /**
   * The other party's sound alone, which an element of its own plays sooner: it may play, muted, from the ring on. With
   * {@link remoteVideo} in the place of {@link remote}. With a connection that was given up an element may come to its end:
   * one that has `ended` when `media` is told gets this as its `srcObject` again.
   */
  get remoteAudio(): MediaStream {
    return this.#remote.single.audio
  }

  /** The other party's picture alone, for an element of its own that is there before its first frame. */
  get remoteVideo(): MediaStream {
    return this.#remote.single.video
  }

  /** Whether my microphone is sent. */
  get micOn(): boolean {
    return this.#sends('audio')
  }

  /** Whether my camera is sent. */
  get cameraOn(): boolean {
    return this.#sends('video')
  }

  /** Which devices the browser was asked for and has not answered yet. */
  get opening(): Readonly<Record<Kind, boolean>> {
    return this.#capture.opening
  }

  /** How the other party's side stands. */
  get peerMedia(): PeerMedia {
    return this.#peerMedia
  }

  /** What is wrong with my devices. */
  get problems(): readonly DeviceProblem[] {
    return this.#capture.problems
  }

  /**
   * Takes a call that rings here, with a camera if `video` (default: as it was rung). `tracks` are what the page has
   * captured already, as with {@link openCamera}: they are the call's from now on, or stopped.
   */
  accept(options: { video?: boolean; tracks?: readonly MediaStreamTrack[] } = {}): void {
    if (this.direction === 'out' || this.#state !== 'ringing' || this.#id === undefined) {
      for (const track of options.tracks ?? []) track.stop()
      return
    }
    this.#capture.want('video', options.video ?? this.video)
    const hides = this.#relayOnly ? ({ relayOnly: true } as const) : {}
    this.#owner.send({ type: 'accept', call: this.#id, ...hides })
    this.#state = 'connecting'
    const handedOver = this.#owner.accepting(this)
    this.#link.release()
    if (!this.#link.open) this.#link.begin()
    // Told before devices are opened: what the other party sends may be here sooner.
    this.emit('state', { old: 'ringing', new: 'connecting', reason: undefined })
    this.#capture.adopt([...handedOver, ...(options.tracks ?? [])])
    void this.#capture.open()
  }

  /** Refuses a call that rings here, on all my devices. */
  decline(): void {
    if (this.direction === 'out' || this.#state !== 'ringing' || this.#id === undefined) return
    this.#endHere('decline')
    this.#finish({ reason: 'declined', by: 'me' })
  }

  /** Ends the call: cancels, declines or hangs up; nothing is captured or sent afterwards. */
  hangup(): void {
    if (this.#state === 'ended') return
    if (this.direction === 'in' && this.#state === 'ringing') {
      this.decline()
      return
    }
    this.#endHere()
    const accepted = this.direction === 'in' || this.#acceptedAt !== undefined
    this.#finish({ reason: accepted ? 'hungup' : 'canceled', by: 'me' })
  }

  /** Mutes, or speaks again; asks for the microphone if there is none. Settles when that is done. */
  async setAudio(on: boolean): Promise<void> {
    this.#capture.want('audio', on)
    this.#remember()
    const track = this.#capture.track('audio')
    if (track) {
      track.enabled = on
      this.#mediaChanged()
    } else {
      await this.#capture.open()
    }
  }

  /** Stops the camera, or asks for it again; negotiates nothing. Settles when that is done. */
  async setVideo(on: boolean): Promise<void> {
    this.#capture.want('video', on)
    this.#remember()
    if (on) await this.#capture.open()
    else this.#capture.remove('video')
  }

  /** The browser's figures; empty before there is a connection. */
  async stats(): Promise<RTCStatsReport> {
    return this.#link.stats()
  }

  // What the client tells.

  #ringSent(): void {
    this.#link.begin()
    void this.#capture.open()
  }

  #receive(message: CallMessage): void {
    switch (message.type) {
      case 'calling':
        this.#id = message.call
        if (this.#state === 'ended') {
          this.#endHere()
          return
        }
        this.#peer = { id: message.to.id, name: message.to.name }
        this.#ringsUntil = performance.now() + message.ringMs
        this.#setIceServers(message.iceServers)
        this.#link.offer()
        this.#remember()
        return
      case 'ringing':
        if (this.#state === 'calling') this.#setState('ringing')
        this.#remember()
        return
      case 'refresh':
        this.#setIceServers(message.iceServers)
        return
      case 'accept':
        this.#accepted(message)
        return
      case 'elsewhere': {
        const reason = `elsewhere-${message.act}` as const
        const tab = () => this.#owner.actedInOtherTab(message.call)
        const finish = () => this.#finish({ reason, by: 'me', ...(tab() && { tab: true }) })
        // The server may be faster than the other tab.
        if (tab() || !this.#owner.hasOtherTabs()) finish()
        else setTimeout(finish, tabMs)
        return
      }
      case 'offer':
      case 'answer':
        this.#link.receive(message)
        return
      case 'candidate':
        this.#link.addCandidates(message)
        return
      case 'media':
        // What they have missed meanwhile they may wait for in vain.
        if (this.#peerMedia.connection === 'reconnecting' && message.connection === 'connected') {
          this.#link.refresh()
        }
        this.#peerMedia = {
          audio: message.audio,
          video: message.video,
          connection: message.connection,
          asking: message.asking,
        }
        if (message.connection === 'connected') this.#peerWasConnected = true
        // Said by one who has not been connected yet, it says nothing of this connection.
        this.#peerReloading = message.connection === 'reloading' && this.#peerWasConnected
        this.#updateState()
        return
      case 'ended': {
        const { reason, by, detail, durationMs, next } = message
        if (reason === 'migrated' && next !== undefined && this.#next === undefined) {
          // The other party rang again, in a new page: the same call for the person here.
          this.#next = next
          this.#nextTimer = setTimeout(
            () => this.#finish({ reason, durationMs }),
            this.#owner.timings().reloadMs,
          )
          return
        }
        const who = by === this.#owner.me() ? 'me' : 'peer'
        const closed = reason === 'lost' && this.#peerMedia.connection === 'reloading'
        const nobody = closed ? 'peer' : undefined
        this.#finish({ reason, by: by === undefined ? nobody : who, detail, durationMs })
        return
      }
      default:
        message satisfies never
    }
  }

  #accepted(message: AcceptMessage): void {
    // A call that rings here is accepted by the person here, and by nothing else.
    if (this.#idle()) return
    this.#ticket = message.ticket ?? this.#ticket
    const first = this.#acceptedAt === undefined
    this.#acceptedAt ??= performance.now()
    // What is sent comes first: the other party waits for it.
    if (first && this.direction === 'out') this.#link.accepted(message.early)
    this.#remember()
    if (first) this.#becameActive()
  }

  #merged(message: MergedMessage, iceServers: readonly RTCIceServer[] | undefined): void {
    this.#id = message.call
    this.#ticket = message.ticket
    if (this.#state === 'ended') {
      this.#endHere()
      return
    }
    this.#setIceServers(iceServers ?? [])
    this.#acceptedAt = performance.now()
    this.#link.become(true, 0)
    this.#remember()
    this.#becameActive()
  }

  #rejoined(message: RejoinMessage): void {
    const moves = message.call !== this.#id
    this.#ticket = message.ticket ?? this.#ticket
    this.#setIceServers(message.iceServers)
    if (moves) {
      clearTimeout(this.#nextTimer)
      this.#id = message.call
      this.#next = undefined
      this.#acceptedAt = performance.now() - message.elapsedMs
      this.#pendingMessages = []
      this.#link.become(message.direction === 'in', message.epoch)
    }
    this.#remember()
    const lost = this.#rejoining
    if (moves || lost) {
      this.#rejoining = false
      this.#sentMedia = undefined
      for (const message of this.#pendingMessages.splice(0)) this.#owner.send(message)
      this.#mediaChanged()
    }
    this.#link.reachableAgain(lost ? 'lost' : 'none')
  }

  /** Makes this page's side of a call that was there before it. */
  #restore(message: RejoinMessage, saved: SavedCall | undefined): void {
    this.#ticket = message.ticket
    if (message.active) {
      this.#acceptedAt = performance.now() - message.elapsedMs
      this.#state = 'reconnecting'
      this.#reloaded = true
      this.#link.release()
    } else if (saved?.confirmed) {
      this.#state = 'ringing'
    }
    this.#link.begin(Math.max(message.epoch, saved?.epoch ?? 0) + 1)
    this.#link.offer()
    this.#remember()
    if (message.active) this.#becameActive()
    void this.#capture.open()
  }

  #refused(error: VisavisError): void {
    const mine =
      this.#id !== undefined && (this.direction === 'out' || this.#acceptedAt !== undefined)
    if (error.code === 'wrong_state' && this.#id !== undefined && this.#acceptedAt === undefined) {
      // Another device has answered the early offer; this one connects when it has accepted.
      if (this.direction === 'out' || this.#state !== 'ringing') return
      this.#link.drop()
    } else if (!mine) {
      this.#finish({ reason: 'error', error })
    } else if (error.code === 'unknown_call' || error.code === 'bad_ticket') {
      this.#finish({ reason: 'lost' })
    } else if (error.code === 'bad_description') {
      this.#giveUp(error)
    }
  }

  #sessionLost(error: VisavisError, final: boolean): CallTicket | undefined {
    if (this.#id === undefined || this.#ticket === undefined || final) {
      this.#finish({ reason: 'error', error })
      return undefined
    }
    this.#rejoining = true
    return { call: this.#id, ticket: this.#ticket, relayOnly: this.#relayOnly }
  }

  #serverReached(lost: boolean): void {
    if (!this.#rejoining) this.#link.reachableAgain(lost ? 'delayed' : 'none')
  }

  #handOver(): readonly MediaStreamTrack[] {
    const tracks = this.#capture.release()
    this.hangup()
    return tracks
  }

  /** The call is active: from now on its media is watched. */
  #becameActive(): void {
    this.#link.watch()
    if (this.#state === 'calling' || this.#state === 'ringing') this.#setState('connecting')
    this.#updateState()
  }

  #tick(): void {
    this.#owner.callAlive()
    this.#endIfUnreachable()
    if (this.#connectOverdue) this.#sendMedia()
    if (performance.now() - this.#iceServersAt < refreshMs) return
    if (this.#id === undefined || this.#ticket === undefined) return
    // The answer has fresh credentials.
    this.#iceServersAt = performance.now()
    this.#send({ type: 'rejoin', ticket: this.#ticket, call: this.#id })
  }

  /** It has been accepted for so long that there should be a connection. */
  get #connectOverdue(): boolean {
    const since = this.#acceptedAt ?? Number.POSITIVE_INFINITY
    return this.#state === 'connecting' && performance.now() - since >= connectOverdueMs
  }

  /** With the other party and the server both gone, nobody else would say that the call is over. */
  #endIfUnreachable(): void {
    if (this.#owner.online() || this.#link.mediaState === 'connected') {
      this.#unreachableSince = undefined
      return
    }
    this.#unreachableSince ??= performance.now()
    if (performance.now() - this.#unreachableSince < this.#owner.timings().partyGraceMs) return
    this.#endHere()
    this.#finish({ reason: 'lost' })
  }

  /** Brings the state to how the media stands. */
  #updateState(): void {
    if (this.#state !== 'ended' && this.#acceptedAt !== undefined) {
      const { mediaState: standing } = this.#link
      const flows = standing === 'connected' && !this.#peerReloading
      if (flows) this.#reloaded = false
      if (flows) this.#setState('connected')
      // While a new connection is made, media has stalled, too.
      else if (this.#state === 'connected') this.#setState('reconnecting')
    }
    this.#mediaChanged()
  }

  #setIceServers(iceServers: readonly RTCIceServer[]): void {
    if (iceServers.length === 0) return
    this.#iceServers = iceServers
    this.#iceServersAt = performance.now()
  }

  /** The other party's hang-up also comes on the data channel: the first counts. */
  #dataReceived(text: string): void {
    if (this.#acceptedAt === undefined || this.#id === undefined) return
    if (text !== hangupData(this.#id)) return
    this.#endHere()
    this.#finish({ reason: 'hungup', by: 'peer' })
  }

  #negotiationFailed(error: unknown): void {
    // A call that has been connected tries again, until the server takes it for lost.
    const sent = this.#sentMedia?.connection
    if (sent === 'connected' || sent === 'reconnecting') return
    const why = `the browser refused a description: ${String(error)}`
    this.#giveUp(new VisavisError('bad_description', why))
  }

  /** A browser or the server refused a description: no later one would fare better. */
  #giveUp(error: VisavisError): void {
    const detail = 'description'
    this.#endHere('hangup', detail)
    this.#finish({ reason: 'failed', detail, error })
  }

  #endHere(type: LocalEnd['type'] = 'hangup', detail?: Detail): void {
    if (this.#id === undefined) return
    const at = performance.now()
    const [call, ticket, rejoining] = [this.#id, this.#ticket, this.#rejoining]
    this.#owner.endedHere({ type, call, ticket, rejoining, at, detail })
  }

  #send(message: ClientMessage): void {
    if (this.#rejoining) this.#pendingMessages.push(message)
    else this.#owner.send(message)
  }

  #remember(): void {
    if (this.#id === undefined || this.#state === 'ended') return
    if (this.direction === 'in' && this.#acceptedAt === undefined) return
    this.#owner.remember({
      id: this.#id,
      ticket: this.#ticket,
      confirmed: this.#state !== 'calling',
      epoch: this.#link.epoch,
      relayOnly: this.#relayOnly,
      ...this.#capture.wanted,
    })
  }

  #finish(end: Pick<EndDetail, 'reason'> & Partial<EndDetail>): void {
    if (this.#state === 'ended') return
    const { reason, by, error, detail, tab } = end
    const lasted = this.#acceptedAt === undefined ? 0 : performance.now() - this.#acceptedAt
    const durationMs = end.durationMs ?? Math.round(lasted)
    this.#end = { reason, by, error, detail, durationMs, ...(tab && { tab }) }
    this.#capture.stop()
    clearTimeout(this.#nextTimer)
    const accepted = this.#acceptedAt !== undefined && this.#id !== undefined
    this.#link.close(accepted ? hangupData(this.#id ?? '') : undefined)
    this.#setState('ended')
    this.#owner.ended(this)
  }

  #setState(state: CallState): void {
    const old = this.#state
    if (old === state || old === 'ended') return
    this.#state = state
    this.emit('state', { old, new: state, reason: this.#end })
  }

  // What is sent.

  #canSend(kind: Kind): boolean {
    return this.#link.open && !this.#idle() && this.#link.canSend(kind)
  }

  /** Nothing may be captured: it rings here, or it is over. */
  #idle(): boolean {
    return this.#state === 'ended' || (this.direction === 'in' && this.#state === 'ringing')
  }

  #sends(kind: Kind): boolean {
    return this.#canSend(kind) && (this.#capture.track(kind)?.enabled ?? false)
  }

  #mediaChanged(): void {
    if (this.#state === 'ended') return
    this.emit('media', undefined)
    this.#sendMedia()
  }

  #sendMedia(): void {
    if (this.#id === undefined || this.#acceptedAt === undefined || this.#rejoining) return
    const media: MediaMessage = {
      type: 'media',
      call: this.#id,
      connection: this.#mediaConnection(),
      audio: this.micOn && !this.#capture.broken('audio'),
      video: this.cameraOn && !this.#capture.broken('video'),
      ...(this.#capture.asking && { asking: this.#capture.asking }),
      ...(this.#connectOverdue && { detail: this.#link.detail }),
    }
    const sent = this.#sentMedia
    if (
      sent?.connection === media.connection &&
      sent.audio === media.audio &&
      sent.video === media.video &&
      sent.asking === media.asking &&
      sent.detail === media.detail
    ) {
      return
    }
    this.#sentMedia = media
    this.#owner.send(media)
  }

  #mediaConnection(): MediaConnection {
    if (this.#reloaded) return 'reloading'
    if (this.#state === 'connected' || this.#state === 'reconnecting') return this.#state
    return 'connecting'
  }
}

/** What every beginning has in one way or another. */
function origin(beginning: CallBeginning) {
  switch (beginning.how) {
    case 'out': {
      const { peer, video } = beginning
      return { direction: 'out' as const, peer, video, call: undefined, ringMs: 0, iceServers: [] }
    }
    case 'in':
      return { ...beginning.ring, direction: 'in' as const, peer: beginning.ring.from }
    case 'rejoined':
      return beginning.rejoin
  }
}

/** Whether this call is a stranger's, from whom I hide my addresses. There must be a relay to hide behind. */
function hidesFrom(beginning: CallBeginning, owner: CallOwner): boolean {
  if (beginning.how !== 'in') return false
  const { stranger, iceServers } = beginning.ring
  return stranger && owner.relaysStrangers() && hasRelay(iceServers)
}

/** What a party says on the data channel as it hangs up. */
function hangupData(call: string): string {
  return JSON.stringify({ hangup: call })
}
