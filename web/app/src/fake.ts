// A client and a call that do what a test or the gallery tells them. Never part of the page.

import type {
  CallRecord,
  CallState,
  ConnectionState,
  DeviceProblem,
  EndDetail,
  Place,
  User,
  VisavisError,
} from 'visavis'
import type { Call, Client } from './client.ts'

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
  readonly ringsUntil = undefined
  readonly local: MediaStream
  readonly remote: MediaStream
  peer: { id: string; name: string }
  state: CallState
  end: EndDetail | undefined
  acceptedAt: number | undefined
  audio = true
  videoOn: boolean
  peerMedia: Call['peerMedia'] = { audio: true, video: true, connection: 'connected' }
  problems: readonly DeviceProblem[] = []
  acts: string[] = []

  constructor(
    direction: 'in' | 'out',
    peer: { id: string; name: string },
    { video = true, local = nothing(), remote = nothing() } = {},
  ) {
    super()
    this.direction = direction
    this.peer = peer
    this.video = video
    this.videoOn = direction === 'out' && video
    this.local = local
    this.remote = remote
    this.state = direction === 'in' ? 'ringing' : 'calling'
  }

  become(state: CallState, end?: EndDetail): void {
    const old = this.state
    this.state = state
    this.end = end
    if (state === 'connected') this.acceptedAt ??= performance.now()
    this.tell('state', { old, new: state, reason: end })
  }

  change(media: Partial<Pick<FakeCall, 'audio' | 'videoOn' | 'peerMedia' | 'problems'>>): void {
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

  accept(options: { video?: boolean } = {}): void {
    this.acts.push(options.video ? 'accept video' : 'accept voice')
    this.become('connecting')
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
    this.change({ audio: on })
  }

  async setVideo(on: boolean): Promise<void> {
    this.change({ videoOn: on })
  }

  async stats(): Promise<RTCStatsReport> {
    return new Map() as RTCStatsReport
  }
}

export class FakeClient extends Events implements Client {
  state: ConnectionState = 'idle'
  user: User | undefined
  users: readonly User[] = []
  call: Call | undefined
  records: CallRecord[] = []
  /** What connect() rejects with, once for each. */
  refusals: VisavisError[] = []
  /** While set, the server does not answer connect(). */
  silent = false
  rung: string[] = []
  nextCall: FakeCall | undefined

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

  close(): void {
    this.become('idle')
  }

  ring(user: string, options: { video?: boolean } = {}): Call {
    const name = this.users.find((u) => u.id === user)?.name ?? user
    const call = this.nextCall ?? new FakeCall('out', { id: user, name }, options)
    this.rung.push(`${user} ${call.video ? 'video' : 'voice'}`)
    this.call = call
    this.tell('call', call)
    return call
  }

  async calls(): Promise<CallRecord[]> {
    return this.records
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

  rings(call: FakeCall): void {
    this.call = call
    this.tell('ring', call)
    this.tell('call', call)
  }
}
