/** The browser's side of this SDK, as far as its tests need it. */

import { vi } from 'vitest'

/** A WebSocket that a test plays the server of. */
export class FakeSocket {
  static all: FakeSocket[] = []
  static get last(): FakeSocket {
    const socket = FakeSocket.all.at(-1)
    if (!socket) throw new Error('no socket was opened')
    return socket
  }

  readonly url: string
  /** What the client sent, taken out by {@link take}. */
  #sent: Record<string, unknown>[] = []
  /** With what code the client closed it. */
  closedWith: number | undefined
  onopen: (() => void) | null = null
  onmessage: ((event: { data: unknown }) => void) | null = null
  onclose: ((event: { code: number }) => void) | null = null

  constructor(url: string) {
    this.url = url
    FakeSocket.all.push(this)
  }

  send(frame: string): void {
    this.#sent.push(JSON.parse(frame))
  }

  close(code: number): void {
    this.closedWith = code
  }

  open(): void {
    this.onopen?.()
  }

  says(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) })
  }

  closes(code: number): void {
    this.onclose?.({ code })
  }

  take(): Record<string, unknown>[] {
    return this.#sent.splice(0)
  }
}

/** The server's numbers, as small as a test can tell apart. */
export const timings = {
  ringMs: 60_000,
  unreachableMs: 20_000,
  callerGraceMs: 10_000,
  connectMs: 30_000,
  stalledMs: 1000,
  partyGraceMs: 60_000,
  reloadMs: 30_000,
  restartAfterMs: 2000,
  restartTriesMs: [0, 300, 1200, 2700, 4800, 7000],
  mediaLostMs: 30_000,
  resumeMs: 120_000,
  pingMs: 25_000,
}

export const ann = { id: 'uan', name: 'Ann', presence: 'online' }
export const bob = { id: 'ubo', name: 'Bob', presence: 'online' }

/** A welcome for Ann, with `more` in it. */
export function welcome(more: object = {}) {
  return {
    type: 'welcome',
    session: 's1',
    resume: 'r1',
    user: ann,
    token: 't1',
    iceServers: [{ urls: ['stun:welcome'] }],
    timings,
    users: [bob],
    ...more,
  }
}

export class FakeTrack {
  readonly kind: string
  enabled = true
  readyState = 'live'
  contentHint = ''
  /** A remote track is, until something comes. */
  muted = false
  onended: (() => void) | null = null
  onmute: (() => void) | null = null
  onunmute: (() => void) | null = null

  constructor(kind: string) {
    this.kind = kind
  }

  stop(): void {
    this.readyState = 'ended'
  }

  getSettings() {
    return { deviceId: `the ${this.kind}` }
  }
}

export class FakeStream {
  readonly #tracks: Set<FakeTrack>

  constructor(tracks: FakeTrack[] = []) {
    this.#tracks = new Set(tracks)
  }

  addTrack(track: FakeTrack): void {
    this.#tracks.add(track)
  }

  removeTrack(track: FakeTrack): void {
    this.#tracks.delete(track)
  }

  getTracks(): FakeTrack[] {
    return [...this.#tracks]
  }

  getAudioTracks(): FakeTrack[] {
    return this.getTracks().filter(({ kind }) => kind === 'audio')
  }

  getVideoTracks(): FakeTrack[] {
    return this.getTracks().filter(({ kind }) => kind === 'video')
  }
}

class FakeSender {
  track: FakeTrack | null = null
  streams: unknown[] = []
  readonly parameters = { encodings: [{}] }
  readonly transport = { iceTransport: new EventTarget() }
  /** How many whole pictures it was asked for. */
  whole = 0

  async replaceTrack(track: FakeTrack | null): Promise<void> {
    this.track = track
  }

  setStreams(...streams: unknown[]): void {
    this.streams = streams
  }

  getParameters() {
    return this.parameters
  }

  async setParameters(
    _: object,
    options?: { encodingOptions: { keyFrame: boolean }[] },
  ): Promise<void> {
    if (options?.encodingOptions[0]?.keyFrame) this.whole++
  }
}

class FakeTransceiver {
  readonly sender = new FakeSender()
  readonly receiver: { track: FakeTrack }
  direction: string
  currentDirection: string | null = null

  constructor(kind: string, direction: string) {
    this.receiver = { track: new FakeTrack(kind) }
    this.direction = direction
  }
}

class FakeChannel {
  readyState = 'connecting'
  sent: string[] = []
  onmessage: ((event: { data: unknown }) => void) | null = null

  send(text: string): void {
    this.sent.push(text)
  }
}

/** An RTCPeerConnection whose descriptions are lists of sections, such as `m=audio \nm=video `. */
export class FakePeerConnection {
  static all: FakePeerConnection[] = []
  static get last(): FakePeerConnection {
    const connection = FakePeerConnection.all.at(-1)
    if (!connection) throw new Error('no connection was made')
    return connection
  }

  static async generateCertificate() {
    return { expires: Number.POSITIVE_INFINITY }
  }

  configuration: RTCConfiguration
  signalingState = 'stable'
  connectionState = 'new'
  iceConnectionState = 'new'
  localDescription: { type: string; sdp: string } | null = null
  remoteDescription: { type: string; sdp: string } | null = null
  currentRemoteDescription: { type: string; sdp: string } | null = null
  readonly transceivers: FakeTransceiver[] = []
  readonly channels: FakeChannel[] = []
  readonly candidates: string[] = []
  rolledBack = 0
  restarts = 0
  onnegotiationneeded: (() => void) | null = null
  onicecandidate: ((event: { candidate: object | null }) => void) | null = null
  /** Looking for candidates takes until {@link gathered}; otherwise it is done at once. */
  looks = false
  iceGatheringState = 'new'
  onicegatheringstatechange: (() => void) | null = null
  onicecandidateerror: ((event: { url: string; errorCode: number }) => void) | null = null
  onconnectionstatechange: (() => void) | null = null
  ontrack: ((event: { track: FakeTrack }) => void) | null = null

  constructor(configuration: RTCConfiguration) {
    this.configuration = configuration
    FakePeerConnection.all.push(this)
  }

  setConfiguration(configuration: RTCConfiguration): void {
    this.configuration = configuration
  }

  addTransceiver(kind: string, { direction, streams }: { direction: string; streams: unknown[] }) {
    const transceiver = new FakeTransceiver(kind, direction)
    transceiver.sender.streams = streams
    this.transceivers.push(transceiver)
    this.#negotiationNeeded()
    return transceiver
  }

  createDataChannel() {
    const channel = new FakeChannel()
    this.channels.push(channel)
    return channel
  }

  getTransceivers() {
    return this.transceivers
  }

  async setLocalDescription(): Promise<void> {
    const answers = this.signalingState === 'have-remote-offer'
    const sections = this.transceivers.map(({ receiver }) => `m=${receiver.track.kind} `)
    if (this.channels.length > 0) sections.push('m=application ')
    this.localDescription = { type: answers ? 'answer' : 'offer', sdp: sections.join('\n') }
    this.signalingState = answers ? 'stable' : 'have-local-offer'
    if (answers) this.#settle()
    if (!this.looks) this.gathered()
  }

  gathered(): void {
    this.iceGatheringState = 'complete'
    this.onicegatheringstatechange?.()
  }

  async setRemoteDescription(description: { type: string; sdp: string }): Promise<void> {
    if (description.sdp === 'broken') throw new Error('broken')
    this.remoteDescription = description
    if (description.type === 'answer') {
      this.signalingState = 'stable'
      this.#settle()
      return
    }
    if (this.signalingState === 'have-local-offer') this.rolledBack++
    this.signalingState = 'have-remote-offer'
    const offered = [...description.sdp.matchAll(/^m=(audio|video) /gm)]
    for (const [, kind] of offered.slice(this.transceivers.length)) {
      const transceiver = new FakeTransceiver(kind ?? '', 'recvonly')
      this.transceivers.push(transceiver)
      this.ontrack?.({ track: transceiver.receiver.track })
    }
  }

  async addIceCandidate({ candidate }: { candidate: string }): Promise<void> {
    if (candidate === 'bad') throw new Error('bad')
    this.candidates.push(candidate)
  }

  restartIce(): void {
    this.restarts++
    this.#negotiationNeeded()
  }

  /** What has come so far. */
  bytes = 0
  /** Figures beside that. */
  stats: readonly object[] = []

  async getStats() {
    const all = [{ type: 'inbound-rtp', bytesReceived: this.bytes }, ...this.stats]
    return new Map<string, object>(all.map((figures, i) => [`${i}`, figures]))
  }

  close(): void {
    this.connectionState = 'closed'
  }

  gathers(candidate: string | null): void {
    this.onicecandidate?.({
      candidate:
        candidate === null
          ? null
          : {
              candidate,
              type: / typ (\w+)/.exec(candidate)?.[1],
              toJSON: () => ({ candidate }),
            },
    })
  }

  becomes(state: string): void {
    this.connectionState = this.iceConnectionState = state
    this.onconnectionstatechange?.()
  }

  #negotiationNeeded(): void {
    queueMicrotask(() => this.onnegotiationneeded?.())
  }

  /** Both have spoken: each section goes both ways that the other side has too. */
  #settle(): void {
    this.currentRemoteDescription = this.remoteDescription
    for (const transceiver of this.transceivers) {
      const has = this.remoteDescription?.sdp.includes(`m=${transceiver.receiver.track.kind} `)
      transceiver.currentDirection = has ? transceiver.direction : 'inactive'
    }
  }
}

/** Devices that a test takes away: `problems` has the error that each kind gives. */
export class FakeDevices {
  readonly problems = new Map<string, string>()
  readonly asked: string[] = []
  readonly there = new Set(['the audio', 'the video'])
  /** What was handed out, in order. */
  readonly tracks: FakeTrack[] = []
  /** When the person answers what they are asked. */
  answers: Promise<void> | undefined

  async getUserMedia(wanted: { audio: unknown; video: unknown }): Promise<FakeStream> {
    const kinds = (['audio', 'video'] as const).filter((kind) => wanted[kind])
    this.asked.push(kinds.join('+'))
    if (this.answers) await this.answers
    for (const kind of kinds) {
      const name = this.problems.get(kind)
      if (name !== undefined) throw new DOMException('no', name)
    }
    const tracks = kinds.map((kind) => new FakeTrack(kind))
    this.tracks.push(...tracks)
    return new FakeStream(tracks)
  }

  async enumerateDevices() {
    return [...this.there].map((deviceId) => ({ deviceId }))
  }
}

/** Web Locks of a browser whose other tabs hold those in `held`. */
export class FakeLocks {
  static readonly held = new Set<string>()

  async request(name: string, _: object, granted: () => Promise<void>): Promise<void> {
    if (FakeLocks.held.has(name)) throw new DOMException('taken', 'TimeoutError')
    FakeLocks.held.add(name)
    await granted()
  }
}

/** The channel between the tabs of a browser. */
export class FakeBroadcast {
  static all: FakeBroadcast[] = []
  readonly name: string
  onmessage: ((event: { data: unknown }) => void) | null = null

  constructor(name: string) {
    this.name = name
    FakeBroadcast.all.push(this)
  }

  postMessage(data: unknown): void {
    for (const other of FakeBroadcast.all) {
      if (other !== this && other.name === this.name) other.onmessage?.({ data })
    }
  }

  close(): void {
    FakeBroadcast.all = FakeBroadcast.all.filter((other) => other !== this)
  }
}

/** What was sent as beacons, as address and body. */
export const beacons: [string, unknown][] = []

/** A Storage of its own. */
export function fakeStorage(): Storage {
  const items = new Map<string, string>()
  return {
    get length() {
      return items.size
    },
    clear: () => items.clear(),
    getItem: (key) => items.get(key) ?? null,
    key: (index) => [...items.keys()][index] ?? null,
    removeItem: (key) => items.delete(key),
    setItem: (key, value) => items.set(key, value),
  }
}

/** The window's events. */
export let page = new EventTarget()

/** Puts the fakes in the browser's place, with time standing still; the devices are returned. */
export function fakeBrowser(): FakeDevices {
  vi.useFakeTimers()
  FakeSocket.all = []
  FakePeerConnection.all = []
  const devices = new FakeDevices()
  FakeBroadcast.all = []
  vi.stubGlobal('BroadcastChannel', FakeBroadcast)
  vi.stubGlobal('WebSocket', FakeSocket)
  vi.stubGlobal('RTCPeerConnection', FakePeerConnection)
  vi.stubGlobal('MediaStream', FakeStream)
  FakeLocks.held.clear()
  beacons.length = 0
  page = new EventTarget()
  vi.stubGlobal('navigator', {
    mediaDevices: devices,
    locks: new FakeLocks(),
    sendBeacon: (url: URL, body: string) => beacons.push([url.href, JSON.parse(body)]),
  })
  vi.stubGlobal('fetch', async () => new Response())
  vi.stubGlobal('window', page)
  vi.stubGlobal('addEventListener', page.addEventListener.bind(page))
  vi.stubGlobal('removeEventListener', page.removeEventListener.bind(page))
  return devices
}

/** Lets all promises that can settle do so. */
export async function settle(): Promise<void> {
  await vi.advanceTimersByTimeAsync(0)
}
