import { type Kind, kindOf, kinds } from './kinds.ts'
import type { Remote } from './remote.ts'
import type { Description, Detail } from './wire.ts'

/** What a {@link Peer} tells its call. */
export interface PeerOwner {
  /** A description to carry to the other party. */
  describe(description: Description): void
  /** Candidates to carry to the other party; they belong to the last description. */
  trickle(candidates: readonly RTCIceCandidateInit[]): void
  /** The state of the connection changed. */
  connectionChanged(state: RTCPeerConnectionState): void
  /** The other party's tracks, or the kinds that the connection carries, changed. */
  tracksChanged(): void
  /** A text came on the data channel. */
  dataReceived(text: string): void
  /** The browser refused a description, ours or the other party's. This connection cannot be negotiated any further. */
  negotiationFailed(error: unknown): void
  /** Both parties offered at once, and this side is to give way: it takes a new connection to do so. */
  collided(): void
}

/** By which servers and which kinds of path a connection may go. */
export interface IceConfiguration {
  readonly iceServers: readonly RTCIceServer[]
  readonly iceTransportPolicy: RTCIceTransportPolicy
}

/** What has flowed through a connection. */
export interface Flow {
  /** How many bytes of sound and picture have come. */
  readonly received: number
  /** How much of the other party's sound was played, in milliseconds; 0 where the browser does not tell. */
  readonly playedMs: number
  /** What my devices have given: energy of sound, and frames; undefined where the browser does not tell. */
  readonly given: Readonly<Partial<Record<Kind, number>>>
}

/** How a {@link Peer} is made. */
export interface PeerOptions {
  readonly owner: PeerOwner
  /** The callee yields when both offer at once (W3C: perfect negotiation). */
  readonly polite: boolean
  readonly iceTransportPolicy: RTCIceTransportPolicy
  /** Nothing is sent before {@link Peer.release}: no sender has a track. */
  readonly held: boolean
  /** Where to gather from; {@link Peer.offer} brings the caller fresh ones. */
  readonly iceServers: readonly RTCIceServer[]
  /** The stream that our tracks belong to: pages that know only streams wait for one. */
  readonly local: MediaStream
  /** Gets the other party's tracks, in the place of those of a connection before. */
  readonly remote: Remote
}

const batchMs = 20
// While it rings, the first offer may wait this long for candidates, which then need no messages of their own.
const gatherMs = 200
// ICE changes the path several times in a row, and only the last one counts.
const refreshMs = 50
const videoMaxBitrate = 2_500_000
// Before Chromium has measured the line, it assumes 300 kbit/s. If the picture is too large for that (libwebrtc: over
// 320 × 240 up to 300 kbit/s, over 640 × 480 up to 500), it drops the first four frames: a fifth of a second.
const firstScale = 4
const growMs = 1000
const fullBitrate = 500_000
// The last message before the connection closes needs this long to leave the machine.
const lingerMs = 50

// Marks an offer and its answer with a number, so that a late answer is not taken for that to our next offer.
// Other clients ignore the attribute (RFC 8866 §5.13) and write none.
const offerMark = /^a=visavis-offer:(\d+)\r?$/m

/** Who begins the DTLS handshake. */
type DtlsRole = 'active' | 'passive'

/** The DTLS role that a description takes or offers (RFC 8842 §4.1). */
const setup = /^a=setup:(\w+)/m
/** Changes with an ICE restart (RFC 8839 §4.4.1.1.1). */
const ufrag = /^a=ice-ufrag:(.*)$/m

let certificate: RTCCertificate | undefined

/**
 * Makes the certificate that all connections of this page share, so that none waits for it. A connection that is made
 * before that, or after the certificate has expired, gets its own from the browser.
 */
export async function makeCertificate(): Promise<void> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256' }
  certificate ??= await RTCPeerConnection.generateCertificate(algorithm)
}

/**
 * One connection to the other party's browser. One side starts it with {@link offer}: the caller, or a page that was
 * reloaded. The other side waits for that offer and uses its sections. All operations on the RTCPeerConnection go through
 * one queue, in order.
 */
export class Peer {
  readonly #owner: PeerOwner
  readonly #polite: boolean
  readonly #local: MediaStream
  readonly #remote: Remote
  #configuration: RTCConfiguration
  readonly #connection: RTCPeerConnection
  #queue: Promise<void> = Promise.resolve()
  /** What is sent of each kind, now or once there is a transceiver for it. */
  readonly #tracks: Record<Kind, MediaStreamTrack | null> = { audio: null, video: null }
  readonly #transceivers: Partial<Record<Kind, RTCRtpTransceiver>> = {}
  #channel: RTCDataChannel | undefined
  /** Remote candidates that came before their description. */
  #earlyCandidates: RTCIceCandidateInit[] = []
  /** Our candidates that wait for their batch to leave. */
  #batch: RTCIceCandidateInit[] = []
  #batchTimer: ReturnType<typeof setTimeout> | undefined
  #held: boolean
  /** Ends the wait for candidates of the first offer; undefined when it does not wait. */
  #stopGathering: (() => void) | undefined
  /** When the last exchange of descriptions was over. */
  #negotiatedAt = Number.NEGATIVE_INFINITY
  #offeredAt = Number.NEGATIVE_INFINITY
  #offered = false
  #remoteDescribed = false
  #wasConnected = false
  #remoteIsFirefox = false
  #remoteIsSdk = false
  #refreshTimer: ReturnType<typeof setTimeout> | undefined
  /** The number of our last offer, and the one that the other party's last offer has. */
  #offers = 0
  #theirOffer: string | undefined
  /** The other party's DTLS role, once there is one. It lasts as long as the connection. */
  #theirRole: DtlsRole | undefined
  /** Whether a relay has given us an address, and the errors of relays that have not. */
  #relayed = false
  readonly #relayErrors: number[] = []
  #tuned = false
  #growTimer: ReturnType<typeof setTimeout> | undefined
  #closed = false

  constructor(options: PeerOptions) {
    this.#owner = options.owner
    this.#polite = options.polite
    this.#local = options.local
    this.#remote = options.remote
    this.#held = options.held
    this.#configuration = {
      bundlePolicy: 'max-bundle',
      rtcpMuxPolicy: 'require',
      iceTransportPolicy: options.iceTransportPolicy,
      iceServers: [...options.iceServers],
      certificates: certificate && certificate.expires > Date.now() ? [certificate] : [],
    }
    this.#connection = new RTCPeerConnection(this.#configuration)
    this.#connection.onicecandidate = ({ candidate }) => this.#gathered(candidate)
    this.#connection.onicecandidateerror = ({ url, errorCode }) => {
      if (url.startsWith('turn')) this.#relayErrors.push(errorCode)
    }
    this.#connection.onconnectionstatechange = () => {
      this.#wasConnected ||= this.#connection.connectionState === 'connected'
      this.#owner.connectionChanged(this.#connection.connectionState)
    }
    this.#connection.ontrack = ({ track }) =>
      this.#remote.add(
        track,
        () => this.#closed,
        () => this.#owner.tracksChanged(),
      )
  }

  get state(): RTCPeerConnectionState {
    return this.#connection.connectionState
  }

  /** Whether a description of the other party has come for this connection. */
  get remoteDescribed(): boolean {
    return this.#remoteDescribed
  }

  /** Whether our first offer has had no answer, so that another's first offer cannot be taken over. */
  get unanswered(): boolean {
    return this.#offered && !this.#remoteDescribed
  }

  /** When our pending offer was made, by performance.now(); minus infinity if none is pending. */
  get offeredAt(): number {
    return this.#connection.signalingState === 'have-local-offer'
      ? this.#offeredAt
      : Number.NEGATIVE_INFINITY
  }

  /** When the last exchange of offer and answer was over, by performance.now(). */
  get negotiatedAt(): number {
    return this.#negotiatedAt
  }

  /** Whether ICE has found a path. Media may still not pass over it. */
  get pathFound(): boolean {
    const state = this.#connection.iceConnectionState
    return state === 'connected' || state === 'completed'
  }

  /** Why it is not connected, as far as the browser says. */
  get detail(): Detail {
    if (!this.#remoteDescribed) return 'no_answer'
    const urls = (this.#configuration.iceServers ?? []).flatMap(({ urls }) => urls)
    if (this.#relayed || !urls.some((url) => url.startsWith('turn'))) return 'no_path'
    // RFC 8656 §18: quota reached, insufficient capacity. W3C WebRTC §5.7.2: 701 is a server that was not reached.
    if (this.#relayErrors.some((code) => code === 486 || code === 508)) return 'relay_full'
    if (this.#relayErrors.some((code) => code !== 701)) return 'relay_refused'
    return 'relay_unreachable'
  }

  /** Whether it has ever been connected. */
  get wasConnected(): boolean {
    return this.#wasConnected
  }

  /** Whether the other party uses this SDK: it marks its offers, or the offer that it answers. */
  get remoteIsSdk(): boolean {
    return this.#remoteIsSdk
  }

  /**
   * Whether an ICE restart may cost one of the two sound and picture for seconds. Chromium (156, at least) pairs its new
   * ports with the other party's old candidates, too, and may settle on such a pair: Firefox answers checks there, and
   * drops the media.
   */
  get restartLosesMedia(): boolean {
    return this.#remoteIsFirefox !== isFirefox(this.#connection.localDescription?.sdp)
  }

  /** Makes the first offer: sound, picture and the data channel, all that a call ever needs. */
  offer(iceServers: readonly RTCIceServer[], iceTransportPolicy: RTCIceTransportPolicy): void {
    this.#offered = true
    this.#enqueue(async () => {
      this.#configure({ iceServers: [...iceServers], iceTransportPolicy })
      this.#openChannel()
      for (const kind of kinds) {
        this.#transceivers[kind] = this.#connection.addTransceiver(kind, {
          direction: 'sendrecv',
          streams: [this.#local],
        })
      }
      await this.#attach()
      await this.#offer()
    })
  }

  /** Applies the other party's description and answers an offer; with `ice`, the connection is configured so first. */
  receive(description: Description, ice?: IceConfiguration): void {
    this.#remoteDescribed = true
    this.#enqueue(async () => {
      const connection = this.#connection
      const named = offerMark.exec(description.sdp)?.[1]
      let again = false
      // Chromium's remoteDescription has an origin of its own.
      this.#remoteIsFirefox = isFirefox(description.sdp)
      this.#remoteIsSdk ||= named !== undefined
      if (description.type === 'answer') {
        if (connection.signalingState !== 'have-local-offer') return
        if (named !== undefined && named !== `${this.#offers}`) return
        await connection.setRemoteDescription(this.#keepRole(description))
        this.#theirRole ??= roleIn(description)
      } else {
        const collides = connection.signalingState !== 'stable'
        if (collides && !this.#polite) return
        // To take back an offer costs Chromium (156, at least) the other party's picture: it decodes on, and the track
        // gets no frame ever again. One of us takes a new connection instead.
        if (collides && this.#remoteIsSdk) {
          this.#owner.collided()
          return
        }
        this.#theirOffer = named
        if (ice) this.#configure({ ...ice, iceServers: [...ice.iceServers] })
        const before = connection.currentRemoteDescription?.sdp
        // Takes back our own offer, if there is one.
        await connection.setRemoteDescription(this.#keepRole(description))
        this.#takeOver(description.sdp)
        await this.#attach()
        await connection.setLocalDescription()
        this.#theirRole ??= otherRole(roleIn(connection.localDescription))
        this.#describe()
        // If their offer restarted ICE, that serves for our restart, too. Otherwise ours is made again.
        again = collides && ufrag.exec(before ?? '')?.[1] === ufrag.exec(description.sdp)?.[1]
      }
      this.#negotiatedAt = performance.now()
      for (const candidate of this.#earlyCandidates.splice(0)) await this.#addCandidate(candidate)
      await this.#tune()
      this.#owner.tracksChanged()
      if (again) await this.#restart()
    })
  }

  /** Adds the other party's candidates, whether or not their description is here yet. */
  addCandidates(candidates: readonly RTCIceCandidateInit[]): void {
    this.#enqueue(async () => {
      if (!this.#connection.remoteDescription) {
        this.#earlyCandidates.push(...candidates)
        return
      }
      for (const candidate of candidates) await this.#addCandidate(candidate)
    })
  }

  /** Sends this track, or nothing; never negotiates. */
  setTrack(kind: Kind, track: MediaStreamTrack | null): void {
    this.#tracks[kind] = track
    this.#enqueue(() => this.#attach())
  }

  /** The person accepted: tracks that were held back are sent, over any path that the policy allows. */
  release(iceTransportPolicy: RTCIceTransportPolicy): void {
    this.#held = false
    this.#stopGathering?.()
    // At once, so that sound is on its way before others hear of the accept. The queue handles its failure.
    const attached = this.#attach()
    attached.catch(() => undefined)
    this.#enqueue(async () => {
      await attached
      this.#configure({ iceTransportPolicy })
    })
  }

  /** Restarts ICE with this configuration. The path that there is stays until there is a better one. */
  restart(ice: IceConfiguration): void {
    this.#enqueue(async () => {
      this.#configure({ ...ice, iceServers: [...ice.iceServers] })
      await this.#restart()
    })
  }

  /**
   * Sends a key frame soon, for a receiver that lost the frames before. Chromium asks for lost packets ten times, which may
   * be over before there is a path again, and for a key frame only after 3 s. Firefox ignores the request.
   */
  refresh(): void {
    this.#refreshTimer ??= setTimeout(() => {
      this.#refreshTimer = undefined
      this.#enqueue(() => this.#sendWhole())
    }, refreshMs)
  }

  /** Whether the two sides agreed that we may send this kind; true until then. */
  canSend(kind: Kind): boolean {
    if (!this.#connection.currentRemoteDescription) return true
    const direction = this.#transceivers[kind]?.currentDirection
    return direction === 'sendrecv' || direction === 'sendonly'
  }

  /** The browser's figures. */
  stats(): Promise<RTCStatsReport> {
    return this.#connection.getStats()
  }

  /** What has flowed so far. */
  async flow(): Promise<Flow> {
    let received = 0
    let playedMs = 0
    const given: Partial<Record<Kind, number>> = {}
    for (const figures of (await this.stats()).values()) {
      if (figures.type === 'inbound-rtp') {
        received += figures.bytesReceived ?? 0
        // Samples that left the jitter buffer, at Opus' 48 kHz. Samples that the browser made up do not count.
        if (figures.kind === 'audio') playedMs += (figures.jitterBufferEmittedCount ?? 0) / 48
      }
      if (figures.type !== 'media-source') continue
      // Firefox does not tell the energy of a microphone.
      if (figures.kind === 'audio') given.audio = figures.totalAudioEnergy
      if (figures.kind === 'video') given.video = figures.frames
    }
    return { received, playedMs, given }
  }

  /** Closes at once; within 50 ms if there is `finalData` to send on the data channel. */
  close(finalData?: string): void {
    if (this.#closed) return
    this.#closed = true
    this.#stopGathering?.()
    clearTimeout(this.#batchTimer)
    clearTimeout(this.#growTimer)
    clearTimeout(this.#refreshTimer)
    const connection = this.#connection
    connection.onicecandidate = connection.onicecandidateerror = null
    connection.onconnectionstatechange = connection.ontrack = null
    if (finalData !== undefined && this.#channel?.readyState === 'open') {
      this.#channel.send(finalData)
      setTimeout(() => connection.close(), lingerMs)
    } else {
      connection.close()
    }
  }

  #enqueue(operation: () => Promise<void>): void {
    this.#queue = this.#queue.then(async () => {
      if (this.#closed) return
      try {
        await operation()
      } catch (error) {
        if (!this.#closed) this.#owner.negotiationFailed(error)
      }
    })
  }

  /** Offers at once, without waiting for `negotiationneeded`: Firefox fires none after restartIce(). */
  async #restart(): Promise<void> {
    this.#connection.restartIce()
    await this.#offer()
  }

  async #offer(): Promise<void> {
    this.#offeredAt = performance.now()
    const gathers = this.#held && this.#offers === 0 ? this.#gatherBriefly() : undefined
    await this.#connection.setLocalDescription()
    await gathers
    this.#describe()
  }

  /** Waits for candidates to join the description: until there are no more, for gatherMs, or until it is urgent. */
  #gatherBriefly(): Promise<void> {
    const connection = this.#connection
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#stopGathering?.(), gatherMs)
      this.#stopGathering = () => {
        this.#stopGathering = undefined
        clearTimeout(timer)
        connection.onicegatheringstatechange = null
        resolve()
      }
      connection.onicegatheringstatechange = () => {
        if (connection.iceGatheringState === 'complete') this.#stopGathering?.()
      }
    })
  }

  #describe(): void {
    const description = this.#connection.localDescription
    if (this.#closed || !description) return
    const { type, sdp } = description
    if (type === 'offer') {
      this.#owner.describe({ type, sdp: marked(sdp, `${++this.#offers}`) })
    } else if (type === 'answer') {
      this.#owner.describe({ type, sdp: marked(sdp, this.#theirOffer) })
    }
  }

  /**
   * Lets the other party keep its DTLS role, which a later description must not change while the certificate stays
   * (RFC 8842 §5.5). Firefox answers each offer of `actpass` with `active`, even if it is the DTLS server. Chromium refuses
   * such an answer.
   */
  #keepRole({ type, sdp }: Description): Description {
    if (!this.#theirRole) return { type, sdp }
    return { type, sdp: sdp.replace(new RegExp(setup, 'gm'), `a=setup:${this.#theirRole}`) }
  }

  #configure(change: RTCConfiguration): void {
    this.#configuration = { ...this.#configuration, ...change }
    this.#connection.setConfiguration(this.#configuration)
  }

  /** The callee sends in the sections that the offer has, and opens no others. */
  #takeOver(offer: string): void {
    if (/^m=application /m.test(offer)) this.#openChannel()
    for (const transceiver of this.#connection.getTransceivers()) {
      const kind = kindOf(transceiver.receiver.track)
      if (this.#transceivers[kind] || transceiver.direction === 'stopped') continue
      this.#transceivers[kind] = transceiver
      transceiver.direction = 'sendrecv'
      transceiver.sender.setStreams(this.#local)
    }
  }

  async #attach(): Promise<void> {
    if (this.#held) return
    const attach = async (kind: Kind) => {
      const sender = this.#transceivers[kind]?.sender
      if (sender && sender.track !== this.#tracks[kind])
        await sender.replaceTrack(this.#tracks[kind])
    }
    await Promise.all(kinds.map(attach))
    if (this.#transceivers.video?.sender.track) this.#growTimer ??= this.#growLater()
  }

  #openChannel(): void {
    if (this.#channel) return
    this.#channel = this.#connection.createDataChannel('visavis', { negotiated: true, id: 0 })
    this.#channel.onmessage = ({ data }) => {
      if (typeof data === 'string' && !this.#closed) this.#owner.dataReceived(data)
    }
  }

  async #addCandidate(candidate: RTCIceCandidateInit): Promise<void> {
    // A candidate that cannot be used, or belongs to an offer that we ignored, must not fail the call.
    await this.#connection.addIceCandidate(candidate).catch(() => undefined)
  }

  #gathered(candidate: RTCIceCandidate | null): void {
    // Firefox says the end of candidates twice: once empty, then null.
    if (candidate?.candidate === '') return
    this.#relayed ||= candidate?.type === 'relay'
    // The description that waits for candidates will contain it.
    if (candidate && this.#stopGathering) return
    this.#batch.push(candidate?.toJSON() ?? { candidate: '' })
    this.#batchTimer ??= setTimeout(() => {
      this.#batchTimer = undefined
      this.#owner.trickle(this.#batch.splice(0))
    }, batchMs)
  }

  /** Prefers sound to picture, and limits the bit rate of the picture. The browser may refuse either. */
  async #tune(): Promise<void> {
    if (this.#tuned) return
    this.#tuned = true
    await tune(this.#transceivers.audio, { priority: 'high' })
    await tune(this.#transceivers.video, {
      maxBitrate: videoMaxBitrate,
      scaleResolutionDownBy: firstScale,
    })
    const ice = this.#transceivers.video?.sender.transport?.iceTransport
    ice?.addEventListener('selectedcandidatepairchange', () => this.refresh())
  }

  #growLater(): ReturnType<typeof setTimeout> {
    return setTimeout(() => this.#enqueue(() => this.#grow()), growMs)
  }

  /** Makes the picture as large as the line carries. It began small, so that the first one came soon. */
  async #grow(): Promise<void> {
    let bitrate = fullBitrate // Firefox does not tell.
    for (const figures of (await this.stats()).values()) {
      if (figures.type === 'candidate-pair') bitrate = figures.availableOutgoingBitrate ?? bitrate
    }
    const full = bitrate >= fullBitrate
    await tune(this.#transceivers.video, { scaleResolutionDownBy: full ? 1 : 2 })
    if (!full) this.#growTimer = this.#growLater()
  }

  async #sendWhole(): Promise<void> {
    const sender = this.#transceivers.video?.sender
    if (!sender?.track) return
    const parameters = sender.getParameters()
    const options: SetParameterOptions = {
      encodingOptions: parameters.encodings.map(() => ({ keyFrame: true })),
    }
    const set: (p: RTCRtpSendParameters, o: SetParameterOptions) => Promise<void> =
      sender.setParameters.bind(sender)
    await set(parameters, options).catch(() => undefined)
  }
}

/** W3C WebRTC Extensions, which TypeScript does not know: RTCSetParameterOptions. */
interface SetParameterOptions {
  readonly encodingOptions: readonly { readonly keyFrame: boolean }[]
}

/** Firefox names itself in the origin of its SDP (RFC 8866 §5.2). */
function isFirefox(sdp = ''): boolean {
  return /^o=mozilla/m.test(sdp)
}

function roleIn(description: RTCSessionDescriptionInit | null): DtlsRole | undefined {
  const role = setup.exec(description?.sdp ?? '')?.[1]
  return role === 'active' || role === 'passive' ? role : undefined
}

function otherRole(role: DtlsRole | undefined): DtlsRole | undefined {
  if (role === undefined) return undefined
  return role === 'active' ? 'passive' : 'active'
}

function marked(sdp: string, offer: string | undefined): string {
  return offer === undefined ? sdp : sdp.replace(/^t=.*\r?\n/m, `$&a=visavis-offer:${offer}\r\n`)
}

async function tune(
  transceiver: RTCRtpTransceiver | undefined,
  wish: RTCRtpEncodingParameters,
): Promise<void> {
  const parameters = transceiver?.sender.getParameters()
  const encoding = parameters?.encodings[0]
  if (!transceiver || !parameters || !encoding) return
  Object.assign(encoding, wish)
  await transceiver.sender.setParameters(parameters).catch(() => undefined)
}
