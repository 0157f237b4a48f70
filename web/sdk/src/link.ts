import { type Kind, kinds } from './kinds.ts'
import { Addresses, type NetworkChange } from './network.ts'
import { type Flow, type IceConfiguration, Peer } from './peer.ts'
import { Recovery, type Trouble } from './recovery.ts'
import type { Remote } from './remote.ts'
import { type Transport, TransportFallback } from './transport.ts'
import { MediaWatchdog } from './watchdog.ts'
import type { CandidateMessage, DescriptionMessage, Detail, Timings } from './wire.ts'

/** What a {@link Link} asks and tells its call. */
export interface LinkOwner {
  timings(): Timings
  /** The freshest known. */
  iceServers(): readonly RTCIceServer[]
  /** How much sound and picture our devices have given so far; a few times a second. */
  sourcesMeasured(given: Flow['given']): void
  /** What we send of this kind. */
  track(kind: Kind): MediaStreamTrack | undefined
  /** Whether the other party sends anything. */
  mediaExpected(): boolean
  /** Whether an offer would reach the other party now. */
  reachable(): boolean
  /** Carries this to the other party. */
  send(message: Omit<DescriptionMessage, 'call'> | Omit<CandidateMessage, 'call'>): void
  /** Check the connection to the server, too: it may be as dead as this one. */
  check(): void
  /** Media was received over this transport. Undefined: on the network of now, none is known to work. */
  transportWorked(transport: Transport | undefined): void
  /** There is a new peer connection. */
  renewed(): void
  /** {@link Link.mediaState} may have changed. */
  changed(): void
  tracksChanged(): void
  /** A text came on the data channel. */
  dataReceived(text: string): void
  /** The browser refused a description, and the connection has never carried media. */
  negotiationFailed(error: unknown): void
  /** A quarter of a second of an active call has passed. */
  tick(): void
}

/** How a {@link Link} is made. */
export interface LinkOptions {
  readonly owner: LinkOwner
  readonly polite: boolean
  /** By which paths the two may connect once the call is accepted. */
  readonly iceTransportPolicy: RTCIceTransportPolicy
  /** Over which transport media was last received on this network, if that was not the first one. */
  readonly lastTransport: Transport | undefined
  /** Whether they may connect over the relay before that. */
  readonly early: boolean
  readonly local: MediaStream
  readonly remote: Remote
}

/**
 * What became of messages while the other party was out of reach. `none`: nothing, it was only in doubt whether they
 * arrive. `delayed`: they waited on our side. `lost`: some of them are lost.
 */
export type SignalingOutage = 'none' | 'delayed' | 'lost'

/** Whether media flows between the two. */
export type MediaState = 'connecting' | 'connected' | 'stalled'

// The callee restarts this much later than the caller: two restarts at once hinder each other.
const politeMs = 1000
// A change of path during the first picture delays it, in Chromium by a fifth of a second.
const widenMs = 500
// The longest search for a path on a bad line, from the end of the offer/answer exchange.
const settleMs = 3000
// The same, when there was a path before.
const settleAgainMs = 1000
// The longest wait for an answer. Messages do arrive, so only a party that went away and came back needs another offer.
const answerMs = 1000
// Chromium changes to another path 2.5 s after it last received anything over the current one (libwebrtc,
// WEAK_CONNECTION_RECEIVE_TIMEOUT). Sometimes it does not, although the other side has, and gives up only after 5 s
// (CONNECTION_WRITE_CONNECT_TIMEOUT). A new connection has no old path and takes half a second: it is ready when the
// old one should have changed.
const stalePathMs = 2000
// After this many restarts without media, the offers may have gone into a socket that is as dead as the media.
const checkAfterTries = 2

/**
 * The connection between the two browsers, through all the peer connections (epochs) that it takes. The first one is made
 * while it rings or at accept. A reload makes a new one, and stalled media restarts ICE.
 * Nothing is sent before {@link release} or {@link accepted}: until then no sender has a track.
 */
export class Link {
  readonly #owner: LinkOwner
  readonly #options: LinkOptions
  readonly #recovery: Recovery
  #polite: boolean
  #peer: Peer | undefined
  #epoch = 0
  /** The person here has accepted, and the call is for certain. */
  #released = false
  /** Ends the wait for the search of a better path. */
  #widenTimer: ReturnType<typeof setTimeout> | undefined
  readonly #fallback: TransportFallback
  /** Since when a path is looked for because no media is received. */
  #searchedAt: number | undefined
  /** A path has failed, perhaps with its relay. */
  #pathFailed = false
  /** When this connection took the place of one that was given up, until it is connected. */
  #replacedAt: number | undefined
  /** The machine has slept, or had no network at all, and nothing was done about that yet. */
  #interrupted = false
  #closed = false
  /** Which network it is, once the call is active. */
  #addresses: Addresses | undefined
  /** Checks whether media is received, once the call is active. */
  #watchdog: MediaWatchdog | undefined

  constructor(options: LinkOptions) {
    this.#options = options
    this.#owner = options.owner
    this.#polite = options.polite
    this.#fallback = new TransportFallback(options.iceTransportPolicy, options.lastTransport)
    this.#recovery = new Recovery({
      timings: () => this.#owner.timings(),
      yieldMs: () => (this.#polite ? politeMs : 0),
      reachable: () => this.#owner.reachable(),
      receiving: () => this.mediaState === 'connected' && (this.#watchdog?.receiving ?? false),
      settlingMs: () => this.#settlingMs(),
      restart: (attempts, pathGone) => this.#restart(attempts, pathGone),
    })
  }

  /** Whether there is a peer connection. */
  get open(): boolean {
    return this.#peer !== undefined
  }

  /** Why there is no connection, as far as that can be told. */
  get detail(): Detail | undefined {
    return this.#peer?.detail
  }

  /** Number of the peer connection, counted from 0 in the life of the call. */
  get epoch(): number {
    return this.#epoch
  }

  get mediaState(): MediaState {
    const state = this.#peer?.state
    if (state === 'disconnected' || state === 'failed' || this.#watchdog?.stalled) return 'stalled'
    return state === 'connected' ? 'connected' : 'connecting'
  }

  /** Makes the first peer connection, which waits for an offer. */
  begin(epoch = 0): void {
    this.#renew(epoch)
  }

  /** Offers what begin made, now that the call's servers are known. */
  offer(): void {
    const iceServers = this.#servers()
    this.#peer?.offer(iceServers, this.#policy(iceServers))
  }

  /** Applies an offer or answer of the other party. */
  receive(message: DescriptionMessage): void {
    const { epoch = 0, type, description } = message
    const offer = type === 'offer'
    if (!this.#peer || epoch < this.#epoch) return
    // If both make a first offer, the callee gives up its own: a connection with an offer cannot take another first offer.
    const yields = offer && this.#polite && this.#peer.unanswered
    const restarts = offer && (this.mediaState === 'stalled' || this.#missesMedia(epoch))
    if (restarts) {
      this.#pathFailed = true
      this.#searches()
    }
    if (epoch > this.#epoch || yields) {
      if (!offer) return
      this.#renew(epoch)
    }
    this.#peer.receive(description, restarts ? this.#iceConfiguration() : undefined)
  }

  addCandidates({ epoch = 0, candidates }: CandidateMessage): void {
    if (!this.#peer || epoch < this.#epoch) return
    // The candidates overtook their offer.
    if (epoch > this.#epoch) this.#renew(epoch)
    this.#peer.addCandidates(candidates)
  }

  /** The person here has accepted: their tracks are sent, by any path that is allowed. */
  release(): void {
    this.#released = true
    this.#peer?.release(this.#fallback.policy)
  }

  /** The callee accepted. `early`: the device that accepted is the one that this connection was made with while it rang. */
  accepted(early: boolean): void {
    const another = this.#peer?.remoteDescribed && !early
    this.release()
    if (another) {
      this.#renew(this.#epoch + 1)
      this.offer()
    } else if (early && this.#fallback.policy !== 'relay') {
      // Not before the answer has come: an answer without a mark would be taken for that to a later offer.
      const widen = () => {
        if (this.#peer?.remoteDescribed) this.#peer.restart(this.#iceConfiguration())
        else this.#widenTimer = setTimeout(widen, widenMs)
      }
      this.#widenTimer = setTimeout(widen, widenMs)
    }
  }

  /** The call goes on as another one, perhaps from the other side. Makes a new connection, which waits for an offer. */
  become(polite: boolean, epoch: number): void {
    this.#polite = polite
    this.#released = true
    this.#renew(epoch)
  }

  /** Closes the peer connection, because another device of this person answered the offer while it rings. */
  drop(): void {
    this.#peer?.close()
    this.#peer = undefined
  }

  /** The call is active: from now on its media is watched. */
  watch(): void {
    this.#addresses ??= new Addresses()
    this.#watchdog ??= new MediaWatchdog({
      stalledMs: () => this.#owner.timings().stalledMs,
      measure: async () => {
        const flow = await this.#peer?.flow()
        if (flow) this.#owner.sourcesMeasured(flow.given)
        return flow ?? { received: 0, playedMs: 0 }
      },
      mediaExpected: () => {
        const found = this.#peer?.wasConnected || this.#peer?.pathFound
        return (found ?? false) && this.#owner.mediaExpected()
      },
      changed: () => {
        // The socket may stand still with it, and not know: the offer that is due soon needs one that lives.
        if (this.#watchdog?.stalled) this.#owner.check()
        this.#changed()
      },
      tick: () => {
        this.#mediaResumed()
        this.#owner.tick()
      },
      woke: () => {
        this.#interrupted = true
        this.#owner.check()
        this.#recovery.startOver()
      },
    })
  }

  /** The network may be another one. An estimate alone is no reason to look for a path: media that stands still is. */
  async networkChanged(change: NetworkChange): Promise<void> {
    if (!this.#watchdog) return
    if (change === 'perhaps' && !(await this.#addresses?.changed())) return
    if (this.#closed) return
    this.#interrupted ||= change === 'back'
    this.#searchedAt = undefined
    this.#fallback.reset()
    this.#owner.transportWorked(undefined)
    this.#recovery.startOver()
  }

  /** What we send reaches the other party again. */
  reachableAgain(after: SignalingOutage): void {
    if (after === 'lost' && this.#peer?.state !== 'connected') this.#recovery.startOver()
    else this.#recovery.reachableAgain(after !== 'none')
  }

  /** The other party may have missed too much to go on: the next picture is a whole one. */
  refresh(): void {
    this.#peer?.refresh()
  }

  setTrack(kind: Kind, track: MediaStreamTrack | null): void {
    this.#peer?.setTrack(kind, track)
  }

  /** Whether the two sides agreed that we may send this kind; true until then. */
  canSend(kind: Kind): boolean {
    return this.#peer?.canSend(kind) ?? true
  }

  async stats(): Promise<RTCStatsReport> {
    return (await this.#peer?.stats()) ?? new Map()
  }

  close(finalData?: string): void {
    this.#closed = true
    clearTimeout(this.#widenTimer)
    this.#watchdog?.close()
    this.#recovery.close()
    this.#peer?.close(finalData)
  }

  #renew(epoch: number, replaces = false): void {
    const { local, remote } = this.#options
    const iceServers = this.#servers()
    clearTimeout(this.#widenTimer)
    this.#peer?.close()
    this.#epoch = epoch
    this.#replacedAt = replaces ? performance.now() : undefined
    const peer = new Peer({
      polite: this.#polite,
      iceTransportPolicy: this.#policy(iceServers),
      held: !this.#released,
      iceServers,
      local,
      remote,
      owner: {
        describe: (description) => {
          this.#owner.send({ type: description.type, epoch: epoch || undefined, description })
        },
        trickle: (candidates) => {
          this.#owner.send({ type: 'candidate', epoch: epoch || undefined, candidates })
        },
        connectionChanged: () => this.#changed(),
        tracksChanged: () => this.#owner.tracksChanged(),
        dataReceived: (text) => this.#owner.dataReceived(text),
        negotiationFailed: (error) => this.#negotiationFailed(error),
        collided: () => this.#replace(),
      },
    })
    this.#peer = peer
    for (const kind of kinds) peer.setTrack(kind, this.#owner.track(kind) ?? null)
    this.#watchdog?.reset()
    this.#owner.renewed()
    this.#changed()
  }

  /**
   * Before accept a callee uses only the relay, if there is one. The caller offers all candidates, because it does not know
   * yet which client will accept, and a client that cannot restart ICE needs all of them in the first offer. The server keeps
   * those that show an address back until accept.
   */
  #policy(iceServers: readonly RTCIceServer[]): RTCIceTransportPolicy {
    const narrow = this.#polite && !this.#released && this.#options.early && hasRelay(iceServers)
    return narrow ? 'relay' : this.#fallback.policy
  }

  /** A connection that cannot be negotiated any further is replaced at once, if it has ever carried media. */
  #negotiationFailed(error: unknown): void {
    if (!this.#peer?.wasConnected || !this.#peer.remoteIsSdk) {
      this.#owner.negotiationFailed(error)
      return
    }
    this.#replace()
  }

  /** Makes a new connection in the place of this one. */
  #replace(): void {
    this.#renew(this.#epoch + 1, true)
    this.offer()
  }

  #changed(): void {
    if (this.#peer?.wasConnected) this.#replacedAt = undefined
    this.#recovery.update(this.#trouble())
    this.#owner.changed()
  }

  #trouble(): Trouble {
    if (this.#replacedAt !== undefined) return 'disconnected'
    if (!this.#watchdog) return 'none'
    if (this.#peer?.state === 'failed') return 'failed'
    if (this.#watchdog.stalled) return 'stalled'
    return this.#peer?.state === 'disconnected' ? 'disconnected' : 'none'
  }

  #restart(attempts: number, pathGone: boolean): void {
    const peer = this.#peer
    if (!peer) return
    if (attempts >= checkAfterTries) this.#owner.check()
    // After a change of network, the relay is not what failed.
    if (!pathGone) this.#pathFailed = true
    // Chromium takes packets that were under way during a sleep for a very slow line, and holds later ones back for seconds.
    // When our network was gone, the other side keeps the old path (stalePathMs) in one of four cases. A new connection has
    // neither problem.
    const memory = this.#interrupted || peer.restartLosesMedia
    const anew = memory && peer.wasConnected && peer.remoteIsSdk
    this.#interrupted = false
    // Another transport takes a new connection: the old one may keep a path that carries nothing.
    const another = !pathGone && this.#searches() && peer.remoteIsSdk
    if (!anew && !another && (pathGone || !this.#restartFailed(peer))) {
      peer.restart(this.#iceConfiguration())
      return
    }
    this.#replace()
  }

  /** Notes that a path is looked for because no media comes. Returns whether the transport is another one from now on. */
  #searches(): boolean {
    const since = this.#searchedAt
    this.#searchedAt = performance.now()
    const nothingCame = since !== undefined && (this.#watchdog?.receivedAt ?? since) < since
    return (
      nothingCame &&
      (this.#peer?.pathFound ?? false) &&
      this.#fallback.failed(this.#owner.iceServers())
    )
  }

  #mediaResumed(): void {
    if (this.#searchedAt === undefined || (this.#watchdog?.receivedAt ?? 0) < this.#searchedAt)
      return
    this.#searchedAt = undefined
    this.#fallback.succeeded()
    this.#owner.transportWorked(this.#fallback.transport)
  }

  #settlingMs(): number {
    const peer = this.#peer
    if (!peer) return 0
    // As with restarts, the caller comes first.
    const late = this.#polite ? politeMs : 0
    const until = this.#restartFailed(peer)
      ? Math.max(peer.negotiatedAt + settleAgainMs, this.#healthyAt + stalePathMs)
      : Math.max(peer.negotiatedAt, this.#replacedAt ?? 0) + settleMs
    return Math.max(until + late, peer.offeredAt + answerMs) - performance.now()
  }

  /** Whether an ICE restart brought no media, and the other party supports a new connection instead. */
  #restartFailed(peer: Peer): boolean {
    return peer.wasConnected && peer.remoteIsSdk && peer.negotiatedAt > this.#healthyAt
  }

  /**
   * Whether the connection that an offer of this epoch belongs to receives no media. The other party may notice a moment
   * before we do that media has stalled. An answer for a relay that is gone would then cost seconds.
   */
  #missesMedia(epoch: number): boolean {
    if (!this.#watchdog || !this.#peer?.wasConnected || epoch !== this.#epoch) return false
    return !this.#watchdog.receiving
  }

  get #healthyAt(): number {
    return this.#watchdog?.healthyAt ?? 0
  }

  #iceConfiguration(): IceConfiguration {
    return { iceServers: this.#servers(), iceTransportPolicy: this.#fallback.policy }
  }

  /** The first of several relays; all of them once a relay may have failed, since the two cannot agree on the next one. */
  #servers(): readonly RTCIceServer[] {
    const servers = this.#fallback.servers(this.#owner.iceServers())
    if (this.#pathFailed) return servers
    const first = servers.find(isRelay)
    return servers.filter((server) => !isRelay(server) || server === first)
  }
}

/** Whether media can go over a relay. */
export function hasRelay(servers: readonly RTCIceServer[]): boolean {
  return servers.some(isRelay)
}

function isRelay({ urls }: RTCIceServer): boolean {
  return [urls].flat().some((url) => url.startsWith('turn'))
}
