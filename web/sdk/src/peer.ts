import type { Description } from './wire.ts'

/** What a {@link Peer} tells its call. */
export interface PeerOwner {
  /** A description to carry to the other party. */
  describe(description: Description): void
  /** Candidates to carry to the other party; they belong to the last description. */
  trickle(candidates: readonly RTCIceCandidateInit[]): void
  /** The connection is another: connecting, connected, disconnected, failed. */
  connectionChanged(state: RTCPeerConnectionState): void
  /** The other party's tracks, or the kinds that the connection carries, changed. */
  tracksChanged(): void
  /** The other party said something on the data channel. */
  told(text: string): void
  /** What the other party described cannot be used: there is no connection to be had. */
  broke(): void
}

/** Sound or picture. */
export type Kind = (typeof kinds)[number]
/** Both, in the order of their sections in an offer. */
export const kinds = ['audio', 'video'] as const

/** Which of the two a track is. */
export function kindOf(track: MediaStreamTrack): Kind {
  return track.kind === 'audio' ? 'audio' : 'video'
}

/** How a {@link Peer} is made. */
export interface PeerOptions {
  readonly owner: PeerOwner
  /** The callee yields when both offer at once (W3C: perfect negotiation). */
  readonly polite: boolean
  readonly iceTransportPolicy: RTCIceTransportPolicy
  /** Where to gather from; {@link Peer.offer} brings the caller fresh ones. */
  readonly iceServers: readonly RTCIceServer[]
  /** The stream that our tracks belong to: pages that know only streams wait for one. */
  readonly local: MediaStream
  /** Gets the other party's tracks. */
  readonly remote: MediaStream
}

const batchMs = 20
const restartEveryMs = 2000
const restartsAtMost = 5
const videoMaxBitrate = 2_500_000
// The last message before the connection closes needs this long to leave the machine.
const lingerMs = 50

let certificate: RTCCertificate | undefined

/**
 * Makes the certificate that all connections of this page share, so that none waits for it; one
 * that is made before it is there, or after it has expired, gets its own from the browser.
 */
export async function makeCertificate(): Promise<void> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256' }
  certificate ??= await RTCPeerConnection.generateCertificate(algorithm)
}

/**
 * One connection to the other party's browser. The caller's side starts it with {@link offer};
 * the callee's waits for an offer and takes over what that has. Everything done to the
 * RTCPeerConnection goes through one queue, in order.
 */
export class Peer {
  readonly #owner: PeerOwner
  readonly #polite: boolean
  readonly #local: MediaStream
  readonly #remote: MediaStream
  readonly #configuration: RTCConfiguration
  readonly #connection: RTCPeerConnection
  #queue: Promise<void> = Promise.resolve()
  /** What is sent of each kind, now or once there is a transceiver for it. */
  readonly #tracks: Record<Kind, MediaStreamTrack | null> = { audio: null, video: null }
  readonly #transceivers: Partial<Record<Kind, RTCRtpTransceiver>> = {}
  #channel: RTCDataChannel | undefined
  /** Remote candidates that came before their description. */
  #early: RTCIceCandidateInit[] = []
  /** Our candidates that wait for their batch to leave. */
  #batch: RTCIceCandidateInit[] = []
  #batchTimer: ReturnType<typeof setTimeout> | undefined
  #restarts = 0
  #restartedAt = Number.NEGATIVE_INFINITY
  #restartTimer: ReturnType<typeof setTimeout> | undefined
  #tuned = false
  #closed = false

  constructor(options: PeerOptions) {
    this.#owner = options.owner
    this.#polite = options.polite
    this.#local = options.local
    this.#remote = options.remote
    this.#configuration = {
      bundlePolicy: 'max-bundle',
      rtcpMuxPolicy: 'require',
      iceTransportPolicy: options.iceTransportPolicy,
      iceServers: [...options.iceServers],
      certificates: certificate && certificate.expires > Date.now() ? [certificate] : [],
    }
    this.#connection = new RTCPeerConnection(this.#configuration)
    this.#connection.onnegotiationneeded = () => this.#enqueue(() => this.#negotiate())
    this.#connection.onicecandidate = ({ candidate }) => this.#gathered(candidate)
    this.#connection.onconnectionstatechange = () => this.#connectionChanged()
    this.#connection.ontrack = ({ track }) => this.#add(track)
  }

  /** Makes the first offer: sound, picture and the data channel, all that a call ever needs. */
  offer(iceServers: readonly RTCIceServer[]): void {
    this.#enqueue(async () => {
      this.#connection.setConfiguration({ ...this.#configuration, iceServers: [...iceServers] })
      this.#openChannel()
      for (const kind of kinds) {
        this.#transceivers[kind] = this.#connection.addTransceiver(kind, {
          direction: 'sendrecv',
          streams: [this.#local],
        })
      }
      await this.#attach()
    })
  }

  /** Applies the other party's description and answers an offer. */
  receive(description: Description): void {
    this.#enqueue(async () => {
      const connection = this.#connection
      if (description.type === 'answer') {
        if (connection.signalingState !== 'have-local-offer') return
        await connection.setRemoteDescription(description)
      } else {
        if (connection.signalingState !== 'stable' && !this.#polite) return
        // Takes back our own offer, if there is one.
        await connection.setRemoteDescription(description)
        this.#takeOver(description.sdp)
        await this.#attach()
        await connection.setLocalDescription()
        this.#describe()
      }
      for (const candidate of this.#early.splice(0)) await this.#addCandidate(candidate)
      await this.#tune()
      this.#owner.tracksChanged()
    })
  }

  /** Adds the other party's candidates, whether or not their description is here yet. */
  addCandidates(candidates: readonly RTCIceCandidateInit[]): void {
    this.#enqueue(async () => {
      if (!this.#connection.remoteDescription) {
        this.#early.push(...candidates)
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

  /** Whether the two sides agreed that we may send this kind; true until they have spoken. */
  carries(kind: Kind): boolean {
    if (!this.#connection.currentRemoteDescription) return true
    const direction = this.#transceivers[kind]?.currentDirection
    return direction === 'sendrecv' || direction === 'sendonly'
  }

  /** The browser's figures. */
  stats(): Promise<RTCStatsReport> {
    return this.#connection.getStats()
  }

  /** Closes at once, or within 50 ms when there is a last word to say on the data channel. */
  close(lastWord?: string): void {
    if (this.#closed) return
    this.#closed = true
    clearTimeout(this.#batchTimer)
    clearTimeout(this.#restartTimer)
    const connection = this.#connection
    connection.onnegotiationneeded = connection.onicecandidate = null
    connection.onconnectionstatechange = connection.ontrack = null
    if (lastWord !== undefined && this.#channel?.readyState === 'open') {
      this.#channel.send(lastWord)
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
      } catch {
        if (!this.#closed) this.#owner.broke()
      }
    })
  }

  async #negotiate(): Promise<void> {
    // In the middle of an exchange the browser asks again once that is over.
    if (this.#connection.signalingState !== 'stable') return
    await this.#connection.setLocalDescription()
    this.#describe()
  }

  #describe(): void {
    const description = this.#connection.localDescription
    if (this.#closed || !description) return
    const { type, sdp } = description
    if (type === 'offer' || type === 'answer') this.#owner.describe({ type, sdp })
  }

  /** The callee sends on what the offer has, and opens no section that it has not. */
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
    for (const kind of kinds) {
      const sender = this.#transceivers[kind]?.sender
      if (sender && sender.track !== this.#tracks[kind])
        await sender.replaceTrack(this.#tracks[kind])
    }
  }

  #openChannel(): void {
    if (this.#channel) return
    this.#channel = this.#connection.createDataChannel('visavis', { negotiated: true, id: 0 })
    this.#channel.onmessage = ({ data }) => {
      if (typeof data === 'string' && !this.#closed) this.#owner.told(data)
    }
  }

  async #addCandidate(candidate: RTCIceCandidateInit): Promise<void> {
    // One that cannot be used, or is of an offer that we ignored, fails no call: others follow.
    await this.#connection.addIceCandidate(candidate).catch(() => undefined)
  }

  #gathered(candidate: RTCIceCandidate | null): void {
    // Firefox says the end of candidates twice: once empty, then null.
    if (candidate?.candidate === '') return
    this.#batch.push(candidate?.toJSON() ?? { candidate: '' })
    this.#batchTimer ??= setTimeout(() => {
      this.#batchTimer = undefined
      this.#owner.trickle(this.#batch.splice(0))
    }, batchMs)
  }

  #connectionChanged(): void {
    const state = this.#connection.connectionState
    if (state === 'connected') this.#restarts = 0
    if (state === 'failed' && !this.#polite) this.#restartSoon()
    this.#owner.connectionChanged(state)
  }

  #restartSoon(): void {
    if (this.#restarts >= restartsAtMost) return
    this.#restarts++
    const wait = Math.max(0, this.#restartedAt + restartEveryMs - performance.now())
    clearTimeout(this.#restartTimer)
    this.#restartTimer = setTimeout(() => {
      this.#restartedAt = performance.now()
      this.#connection.restartIce()
    }, wait)
  }

  #add(track: MediaStreamTrack): void {
    this.#remote.addTrack(track)
    this.#owner.tracksChanged()
  }

  /** Sound before picture, and no more picture than a call needs; wishes, which may be refused. */
  async #tune(): Promise<void> {
    if (this.#tuned) return
    this.#tuned = true
    await tune(this.#transceivers.audio, { priority: 'high' })
    await tune(this.#transceivers.video, { maxBitrate: videoMaxBitrate })
  }
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
