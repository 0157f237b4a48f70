// A client and a call that do what a test or the gallery tells them. Never part of the page.

import {
  type CallList,
  type CallRecord,
  type CallState,
  type ConnectionState,
  type DeviceProblem,
  type EndDetail,
  type Place,
  type Prefers,
  type PushReadiness,
  type User,
  VisavisError,
} from 'visavis'
import type { Call, Client, Push } from './client.ts'

type Listener = (event: never) => void

class Events {
  readonly #listeners = new Map<string, Set<Listener>>()

  on(event: string, listener: Listener): () => void {
    const set = this.#listeners.get(event) ?? new Set()
    this.#listeners.set(event, set.add(listener))
    return () => set.delete(listener)
  }

  tell(event: string, value: unknown): void {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) listener(value as never)
  }

  get heard(): number {
    return [...this.#listeners.values()].reduce((sum, set) => sum + set.size, 0)
  }
}

// happy-dom's streams have no tracks to ask for.
function nothing(): MediaStream {
  const stream = new MediaStream()
  stream.getTracks ??= () => []
  return stream
}

export class FakeCall extends Events implements Call {
  readonly id = 'n1-x2kq'
  readonly direction: 'in' | 'out'
  readonly video: boolean
  readonly waiting: boolean
  otherTabInCall = false
  readonly ringsUntil = undefined
  readonly local: MediaStream
  readonly remoteAudio: MediaStream
  readonly remoteVideo: MediaStream
  peer: { id: string; name: string }
  state: CallState
  end: EndDetail | undefined
  acceptedAt: number | undefined
  micOn = true
  cameraOn: boolean
  opening: Call['opening'] = { audio: false, video: false }
  peerMedia: Call['peerMedia'] = { audio: true, video: true, connection: 'connected' }
  problems: readonly DeviceProblem[] = []
  acts: string[] = []
  adopted: readonly MediaStreamTrack[] | undefined
  /** Ends the call that is on, as the SDK does when one that waits is accepted. */
  accepting: () => void = () => undefined

  constructor(
    direction: 'in' | 'out',
    peer: { id: string; name: string },
    { video = true, waiting = false, local = nothing(), remoteVideo = nothing() } = {},
  ) {
    super()
    this.direction = direction
    this.peer = peer
    this.video = video
    this.waiting = waiting
    this.cameraOn = direction === 'out' && video
    this.local = local
    this.remoteAudio = nothing()
    this.remoteVideo = remoteVideo
    this.state = direction === 'in' ? 'ringing' : 'calling'
  }

  become(state: CallState, end?: EndDetail): void {
    const old = this.state
    this.state = state
    this.end = end
    if (state === 'connected') this.acceptedAt ??= performance.now()
    this.tell('state', { old, new: state, reason: end })
  }

  change(
    media: Partial<
      Pick<FakeCall, 'micOn' | 'cameraOn' | 'opening' | 'peerMedia' | 'problems' | 'otherTabInCall'>
    >,
  ): void {
    Object.assign(this, media)
    this.tell('media', undefined)
  }

  finish(
    reason: EndDetail['reason'],
    by?: 'me' | 'peer',
    durationMs = 0,
    error?: VisavisError,
  ): void {
    this.become('ended', { reason, by, durationMs, error })
  }

  accept(options: { video?: boolean; tracks?: readonly MediaStreamTrack[] } = {}): void {
    this.acts.push(options.video ? 'accept video' : 'accept voice')
    this.adopted = options.tracks
    this.state = 'connecting'
    this.accepting()
    this.tell('state', { old: 'ringing', new: 'connecting', reason: undefined })
  }

  decline(): void {
    this.acts.push('decline')
    this.finish('declined', 'me')
  }

  hangup(): void {
    this.acts.push('hangup')
    this.finish(this.acceptedAt === undefined ? 'canceled' : 'hungup', 'me', 61_000)
  }

  async setAudio(on: boolean): Promise<void> {
    this.change({ micOn: on })
  }

  async setVideo(on: boolean): Promise<void> {
    this.change({ cameraOn: on })
  }

  async stats(): Promise<RTCStatsReport> {
    return new Map() as RTCStatsReport
  }
}

export class FakePush extends Events implements Push {
  state: PushReadiness = 'off'
  looks = 0
  /** Settles what turnOn() is waiting for, as the browser does when the person has answered. */
  answer: (error?: VisavisError) => void = () => undefined

  become(state: PushReadiness): void {
    const old = this.state
    this.state = state
    this.tell('state', { old, new: state })
  }

  async turnOn(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.answer = (error) => (error ? reject(error) : resolve())
    })
    this.become('on')
  }

  async turnOff(): Promise<void> {
    this.become('off')
  }

  look(): void {
    this.looks++
  }
}

export class FakeClient extends Events implements Client {
  readonly push = new FakePush()
  state: ConnectionState = 'idle'
  user: User | undefined
  users: readonly User[] = []
  call: Call | undefined
  prefers: Prefers = { whenBusy: 'waiting', doNotDisturb: false }
  alwaysRelay = false
  relayStrangers = true
  records: CallRecord[] = []
  /** Some calls are not among the records yet. */
  incomplete = false
  /** What connect() and rename() reject with, once for each. */
  refusals: VisavisError[] = []
  /** While set, the server does not answer connect(). */
  silent = false
  rung: string[] = []
  forgot = false
  nextCall: FakeCall | undefined
  #waiting: FakeCall | undefined

  async place(): Promise<Place> {
    return { name: 'Visavis', access: 'open' }
  }

  async connect(as: { name?: string } = {}): Promise<User> {
    this.become('connecting')
    if (this.silent) return new Promise(() => undefined)
    const error = this.refusals.shift()
    if (error) {
      this.become('refused', error)
      throw error
    }
    const user: User = { id: 'uan4', name: as.name ?? 'Ann', presence: 'online' }
    this.user = user
    this.become('online')
    return user
  }

  async rename(name: string): Promise<User> {
    const error = this.refusals.shift()
    if (error) throw error
    this.user = { id: 'uan4', presence: 'online', ...this.user, name }
    return this.user
  }

  prefer(change: Partial<Prefers>): void {
    this.prefers = { ...this.prefers, ...change }
  }

  close(options: { forget?: boolean } = {}): void {
    this.forgot = options.forget ?? false
    this.become('idle')
  }

  async signOut(): Promise<void> {
    const error = this.refusals.shift()
    if (error) throw error
    this.become('refused', new VisavisError('signed_out', 'Signed out.'))
    this.close({ forget: true })
  }

  ring(user: string, options: { video?: boolean } = {}): Call {
    const name = this.users.find((u) => u.id === user)?.name ?? user
    const call = this.nextCall ?? new FakeCall('out', { id: user, name }, options)
    this.rung.push(`${user} ${call.video ? 'video' : 'voice'}`)
    if (call.state !== 'ended') this.takes(call)
    return call
  }

  async calls(): Promise<CallList> {
    return { calls: this.records, incomplete: this.incomplete, at: new Date() }
  }

  become(state: ConnectionState, error?: VisavisError): void {
    const old = this.state
    this.state = state
    this.tell('state', { old, new: state, error })
  }

  here(...users: User[]): void {
    this.users = users
    this.tell('users', users)
  }

  /** A call that rings here; while another is on it waits. */
  rings(call: FakeCall): void {
    if (this.call && this.call.state !== 'ended') {
      this.#waiting = call
      call.accepting = () => this.call?.hangup()
    } else {
      this.takes(call)
    }
    this.tell('ring', call)
    call.on('state', () => {
      if (call.state === 'ended' && this.#waiting === call) this.#waiting = undefined
    })
  }

  /** The call that is on from now, also one that the page before this one was in. */
  takes(call: FakeCall): void {
    this.call = call
    this.tell('call', call)
    call.on('state', () => {
      if (call.state !== 'ended' || this.call !== call) return
      this.call = undefined
      const next = this.#waiting
      this.#waiting = undefined
      if (next) this.takes(next)
      else this.tell('call', undefined)
    })
  }
}
