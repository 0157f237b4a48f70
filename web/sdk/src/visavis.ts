import { Call, type CallInput, type CallLine } from './call.ts'
import {
  Connection,
  type ConnectionChange,
  type ConnectionState,
  type SessionMessage,
} from './connection.ts'
import { VisavisError } from './error.ts'
import { Emitter } from './events.ts'
import { type CallRecord, fetchCalls, fetchPlace, type Place } from './http.ts'
import { makeCertificate } from './peer.ts'
import type { RingMessage, User, Welcome } from './wire.ts'

/** How to reach a server, and as whom. */
export interface Options {
  /** The server, such as `https://calls.example.org`; default: where the page came from. */
  url?: string
  /** How I want to be called, where access is open. */
  name?: string
  /** Who I am, from the operator or from an earlier visit; default: what `storage` has. */
  token?: string
  /** Where my token is kept between visits; default: localStorage. */
  storage?: Storage | null
  /** `relay` hides my addresses from the people I talk to: media goes over the server's relay only. */
  iceTransportPolicy?: RTCIceTransportPolicy
}

/** What a {@link Visavis} tells. */
export interface VisavisEvents {
  /** The connection to the server changed; `error` says why it was refused. */
  state: ConnectionChange
  /** `users` changed. */
  users: readonly User[]
  /** Someone rings. */
  ring: Call
  /** `call` changed. */
  call: Call | undefined
}

/** A person's connection to a Visavis server: who is there, who rings, and the call that is on. */
export class Visavis extends Emitter<VisavisEvents> {
  readonly #server: URL
  readonly #storage: Storage | null
  readonly #connection: Connection
  readonly #line: CallLine
  #name: string | undefined
  #token: string | undefined
  #user: User | undefined
  #users: ReadonlyMap<string, User> = new Map()
  #iceServers: readonly RTCIceServer[] = []
  #current: Live | undefined
  /** Rings that the server has not named yet, by their ref; I may have ended one since. */
  readonly #rings = new Map<string, Live>()
  #refs = 0
  #connecting: Connecting | undefined

  constructor(options: Options = {}) {
    super()
    this.#server = new URL(options.url ?? location.href)
    this.#storage = options.storage === undefined ? pageStorage() : options.storage
    this.#name = options.name
    this.#token = options.token ?? this.#storage?.getItem(this.#tokenKey) ?? undefined

    const signal = new URL('/v1/signal', this.#server)
    signal.protocol = signal.protocol.replace('http', 'ws')
    this.#connection = new Connection(signal.href, {
      identity: () => ({ name: this.#name, token: this.#token }),
      forgetToken: () => this.#keepToken(undefined),
      welcomed: (welcome) => this.#welcomed(welcome),
      received: (message) => this.#received(message),
      changed: (change) => this.#changed(change),
    })
    this.#line = {
      iceTransportPolicy: options.iceTransportPolicy ?? 'all',
      me: () => this.#user?.id,
      iceServers: () => this.#iceServers,
      send: (message) => this.#connection.send(message),
      ended: (call) => {
        if (this.#current?.call !== call) return
        this.#current = undefined
        this.emit('call', undefined)
      },
    }
    // Without it a connection makes its own: nothing is lost but a moment.
    makeCertificate().catch(() => undefined)
  }

  get state(): ConnectionState {
    return this.#connection.state
  }

  /** Who I am, once online. */
  get user(): User | undefined {
    return this.#user
  }

  /** Who is here but me, by name. */
  get users(): readonly User[] {
    const others = [...this.#users.values()].filter(({ id }) => id !== this.#user?.id)
    return others.sort((a, b) => a.name.localeCompare(b.name))
  }

  /** The call that is on, if any: one at a time. */
  get call(): Call | undefined {
    return this.#current?.call.state === 'ended' ? undefined : this.#current?.call
  }

  /** What the place at this server is; needs no connection. */
  place(): Promise<Place> {
    return fetchPlace(this.#server)
  }

  /** Comes online and stays so by itself; rejects when the server refuses, and says why. */
  async connect(as: { name?: string } = {}): Promise<User> {
    this.#name = as.name ?? this.#name
    if (this.state === 'online' && this.#user) return this.#user
    this.#connecting ??= connecting()
    this.#connection.open()
    return this.#connecting.promise
  }

  /** Leaves: ends a call, and for the others I am offline at once. */
  close(): void {
    this.call?.hangup()
    this.#connection.close()
  }

  /** Rings a user, by id; returns at once, and the call's state tells the rest. */
  ring(user: string, options: { video?: boolean } = {}): Call {
    const { id, name } = this.#users.get(user) ?? { id: user, name: '' }
    const video = options.video ?? true
    const live = Call.begin(this.#line, { direction: 'out', peer: { id, name }, video })
    const ref = `${++this.#refs}`
    // The page gets the call before it hears what became of it.
    const refuse = (error: VisavisError) => queueMicrotask(() => live.input.refused(error))
    if (this.call) {
      refuse(new VisavisError('in_call', 'You are in a call already.'))
    } else if (!this.#connection.send({ type: 'ring', ref, to: user, video })) {
      refuse(new VisavisError('offline', 'There is no connection to the server.'))
    } else {
      this.#rings.set(ref, live)
      live.input.rang()
      this.#begin(live)
    }
    return live.call
  }

  /** My ended calls, newest first: at most `limit`, those before the call with the id `before`. */
  calls(options: { before?: string; limit?: number } = {}): Promise<CallRecord[]> {
    return fetchCalls(this.#server, this.#token, options)
  }

  get #tokenKey(): string {
    return `visavis.token ${this.#server.origin}`
  }

  #keepToken(token: string | undefined): void {
    this.#token = token
    if (token === undefined) this.#storage?.removeItem(this.#tokenKey)
    else this.#storage?.setItem(this.#tokenKey, token)
  }

  #begin(live: Live): void {
    this.#current = live
    this.emit('call', live.call)
  }

  #welcomed(welcome: Welcome): void {
    this.#user = welcome.user
    this.#iceServers = welcome.iceServers
    if (welcome.token !== undefined) this.#keepToken(welcome.token)
    if (welcome.resumed) return
    this.#sessionLost(new VisavisError('offline', 'The connection to the server was lost.'))
    this.#tellUsers(welcome.users)
  }

  #changed(change: ConnectionChange): void {
    const settle = this.#connecting
    switch (change.new) {
      case 'connecting':
      case 'offline':
        break
      case 'online':
        this.#connecting = undefined
        if (this.#user) settle?.resolve(this.#user)
        break
      case 'idle':
      case 'refused': {
        const error = change.error ?? new VisavisError('offline', 'The page has left the server.')
        this.#connecting = undefined
        settle?.reject(error)
        this.#sessionLost(error)
        this.#user = undefined
        this.#tellUsers([])
        break
      }
      default:
        change.new satisfies never
    }
    this.emit('state', change)
  }

  #received(message: SessionMessage): void {
    switch (message.type) {
      case 'presence':
        this.#presence(message.user)
        return
      case 'ring':
        this.#rung(message)
        return
      case 'error': {
        const { code, ref, call } = message
        const live = ref === undefined ? this.#live(call) : this.#takeRing(ref)
        live?.input.refused(new VisavisError(code, message.message))
        return
      }
      case 'calling': {
        const live = message.ref === undefined ? undefined : this.#takeRing(message.ref)
        live?.input.receive(message)
        return
      }
      default:
        this.#live(message.call)?.input.receive(message)
    }
  }

  #presence(user: User): void {
    if (user.id === this.#user?.id) {
      this.#user = user
      return
    }
    const users = new Map(this.#users)
    if (user.presence === 'offline') users.delete(user.id)
    else users.set(user.id, user)
    this.#tellUsers(users.values())
  }

  #tellUsers(users: Iterable<User>): void {
    this.#users = new Map([...users].map((user) => [user.id, user]))
    this.emit('users', this.users)
  }

  #rung(message: RingMessage): void {
    // The server answers "busy" for a person in a call; one that slips through rings nowhere.
    if (this.call) return
    const { call: id, from: peer, video, ringMs, iceServers } = message
    this.#connection.send({ type: 'ringing', call: id })
    const live = Call.begin(this.#line, { direction: 'in', peer, video, id, ringMs, iceServers })
    this.#begin(live)
    this.emit('ring', live.call)
  }

  #live(call: string | undefined): Live | undefined {
    return call !== undefined && this.#current?.call.id === call ? this.#current : undefined
  }

  #takeRing(ref: string): Live | undefined {
    const live = this.#rings.get(ref)
    this.#rings.delete(ref)
    return live
  }

  #sessionLost(error: VisavisError): void {
    this.#rings.clear()
    this.#current?.input.sessionLost(error)
  }
}

/** A call, and the client's way to speak to it. */
interface Live {
  readonly call: Call
  readonly input: CallInput
}

function pageStorage(): Storage | null {
  try {
    return globalThis.localStorage ?? null
  } catch {
    // A browser that blocks cookies throws at the mere name.
    return null
  }
}

/** Those who wait for connect(), which may take several tries. */
interface Connecting {
  readonly promise: Promise<User>
  resolve(user: User): void
  reject(error: VisavisError): void
}

function connecting(): Connecting {
  let settle: Omit<Connecting, 'promise'> = { resolve: () => undefined, reject: () => undefined }
  const promise = new Promise<User>((resolve, reject) => {
    settle = { resolve, reject }
  })
  return { promise, ...settle }
}
