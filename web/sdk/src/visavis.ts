import { abilities } from './abilities.ts'
import { Call } from './call.ts'
import type { CallIdentity, CallInput, CallOwner, CallTicket, LocalEnd } from './call-owner.ts'
import {
  Connection,
  type ConnectionChange,
  type ConnectionState,
  type SessionMessage,
} from './connection.ts'
import { VisavisError } from './error.ts'
import { Emitter } from './events.ts'
import {
  type CallList,
  deleteLogins,
  fetchCalls,
  fetchPlace,
  type Place,
  probeServer,
  sendHangup,
  sendLeave,
} from './http.ts'
import { hasRelay } from './link.ts'
import { Memory } from './memory.ts'
import { watchNetwork } from './network.ts'
import { makeCertificate } from './peer.ts'
import { PendingAnswer } from './pending-answer.ts'
import { type Prefers, readPrefers } from './prefers.ts'
import { type Answered, Push, type ScriptAddress } from './push.ts'
import { KeptStorage, openStorage } from './storage.ts'
import { Tabs } from './tabs.ts'
import {
  type ErrorMessage,
  type HangupMessage,
  late,
  type RejoinMessage,
  type RingMessage,
  type Timings,
  type User,
  type Welcome,
} from './wire.ts'

// A server that cannot tell whether a call goes on is asked again after this time.
const unavailableMs = 2000

// A server that has not named a call by then may be out of reach; after the second time its caller is told so.
const checkRingMs = 3000
const giveUpRingMs = 9000
// The least time left that is worth beginning to ring for, as the server has it.
const shortestRingMs = 3000

/** How to reach a server, and as whom. */
export interface Options {
  /** The server, such as `https://calls.example.org`; default: where the page came from. */
  url?: string
  /** How I want to be called, where access is open. */
  name?: string
  /** Who I am, from the operator or from an earlier visit; default: what `storage` has. */
  token?: string
  /** Where my token and what I prefer are kept between visits; default: localStorage. */
  storage?: Storage | null
  /** Where a call is kept for a reload or a crash of the page; default: sessionStorage. */
  pageStorage?: Storage | null
  /** `relay` hides my addresses from the people I talk to: media goes over the server's relay only. */
  iceTransportPolicy?: RTCIceTransportPolicy
  /**
   * Whether to connect while it rings, over the relay only and with nothing captured or sent, so that
   * media flows at the moment of accept; default: true.
   */
  early?: boolean
  /** The page's service worker, such as `/worker.js`, which rings while no page is open: see {@link Visavis.push}. */
  worker?: ScriptAddress
  /** Whether to be told who is here ({@link Visavis.users}); default: true. A page that shows no list saves the server that. */
  presence?: boolean
}

/** The events of a {@link Visavis}, and what a listener gets with each. */
export interface VisavisEvents {
  /**
   * The connection to the server changed from `old` to `new`. With `refused`, `error` says why. With `offline`, `error` is
   * there if the network seems to block WebSockets (`websocket_blocked`).
   */
  state: ConnectionChange
  /** The list of other people who are here changed. Listeners get {@link Visavis.users}. */
  users: readonly User[]
  /** Someone rings. If another call is on, {@link Call.waiting} of the new one is true. */
  ring: Call
  /**
   * The call that is on changed. It may be a call that this page takes up again after a reload. It is `undefined` when no
   * call is on any more. Listeners get {@link Visavis.call}.
   */
  call: Call | undefined
  /** The server has recorded a call that this page left. {@link Visavis.calls} has it from now on. Listeners get its id. */
  callrecorded: string
  /** The person answered a call on its notification, and it was over by then. */
  answeredtoolate: Answered
}

/** A person's connection to a Visavis server: who is there, who rings, and the call that is on. */
export class Visavis extends Emitter<VisavisEvents> {
  /** Ringing this device while no page of it is open. */
  readonly push: Push
  readonly #server: URL
  readonly #storage: KeptStorage
  /** The token is the operator's, who gives it to the next page, too. */
  readonly #given: boolean
  /** The page says that media goes over the relay only, whatever the person prefers. */
  readonly #relayOnly: boolean
  readonly #memory: Memory
  readonly #connection: Connection
  readonly #callOwner: CallOwner
  #name: string | undefined
  #token: string | undefined
  #user: User | undefined
  #users: ReadonlyMap<string, User> = new Map()
  /** What #users is as of, for the server to tell only what changed. */
  #presenceAt: string | undefined
  #iceServers: readonly RTCIceServer[] = []
  /** The server's numbers, from the first welcome on. */
  #timings: Timings | undefined
  #current: CallHandle | undefined
  /** Rings while another call is on. */
  #waiting: CallHandle | undefined
  /** Rings that came while one call is on and another one rings beside it: they ring when there is room. */
  #queued: { readonly ring: RingMessage; readonly at: number }[] = []
  /** A ring of the very person I am ringing: one of the two becomes the call. */
  #crossing: { readonly ring: RingMessage; readonly at: number } | undefined
  /** Rings that the server has not named yet, by their ref; I may have ended one since. */
  readonly #rings = new Map<string, CallHandle>()
  #refs = 0
  /** Ends of calls that the server has not confirmed yet, by call. */
  readonly #localEnds = new Map<string, LocalEnd>()
  /** Tickets that the server has not answered yet, by call: those that it cannot judge now are sent again. */
  readonly #sentTickets = new Map<string, CallTicket>()
  #prefers: Partial<Prefers> = {}
  #connecting: Deferred | undefined
  #renaming: (Deferred & { readonly before: string | undefined }) | undefined
  /** The page before is asked whether it still lives. */
  #claiming: Promise<void> | undefined
  #unwatch: (() => void) | undefined
  #tabs: Tabs | undefined
  /** A call that the person accepted on its notification, until it rings here. */
  readonly #pendingAnswer = new PendingAnswer((call) => this.emit('answeredtoolate', call))

  constructor(options: Options = {}) {
    super()
    this.#server = new URL(options.url ?? location.href)
    this.#storage = storageOrDefault(options.storage, 'localStorage')
    this.#given = options.token !== undefined
    this.#relayOnly = options.iceTransportPolicy === 'relay'
    this.#name = options.name
    this.#token = options.token ?? this.#storage.getItem(this.#key('token')) ?? undefined

    const pageStorage = storageOrDefault(options.pageStorage, 'sessionStorage')
    this.#memory = new Memory(pageStorage, this.#server.origin)
    this.#claiming = this.#memory.claim()?.then((saved) => {
      this.#claiming = undefined
      if (saved?.resume !== undefined) this.#connection.takeOver(saved.resume)
    })

    const signal = new URL('/v1/signal', this.#server)
    signal.protocol = signal.protocol.replace('http', 'ws')
    this.#connection = new Connection(signal.href, {
      identity: () => ({
        name: this.#name,
        token: this.#token,
        presence: options.presence ?? true,
        presenceAt: this.#presenceAt,
        alwaysRelay: this.alwaysRelay,
        device: this.push.device,
        visible: isVisible(),
        ...this.#readPrefers(),
      }),
      urgent: () => this.call !== undefined,
      probe: (signal) => probeServer(this.#server, signal),
      refused: (error) => this.#refused(error),
      welcomed: (welcome) => this.#welcomed(welcome),
      received: (message) => this.#received(message),
      changed: (change) => this.#changed(change),
      reached: (lost) => {
        this.#current?.input.serverReached(lost)
        this.#pendingAnswer.serverReached()
      },
    })
    this.push = new Push({
      server: this.#server,
      storage: this.#storage,
      key: this.#key('push'),
      worker: options.worker,
      token: () => this.#token,
      doNotDisturb: () => this.prefers.doNotDisturb,
      deviceChanged: () => this.#connection.show(),
      answered: (call) => this.#answered(call),
    })
    this.#callOwner = {
      iceTransportPolicy: () => (this.alwaysRelay ? 'relay' : 'all'),
      relaysStrangers: () => this.relayStrangers,
      early: options.early ?? true,
      me: () => this.#user?.id,
      iceServers: () => this.#iceServers,
      timings: () => this.#welcomedTimings(),
      online: () => this.#connection.reachable,
      send: (message) => {
        if (message.type === 'accept') this.#tabs?.announce(message.call)
        this.#connection.send(message)
      },
      check: () => this.#connection.check(),
      endedHere: (end) => this.#endedHere(end),
      accepting: (call) => this.#accepting(call),
      remember: (call) => this.#memory.save({ call }),
      lastTransport: () => this.#memory.lastTransport,
      transportWorked: (transport) => this.#memory.transportWorked(transport),
      callAlive: () => this.#memory.callAlive(),
      ended: (call) => this.#ended(call),
      hasOtherTabs: () => this.#tabs?.others ?? false,
      actedInOtherTab: (call) => this.#tabs?.actedInOtherTab(call) ?? false,
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

  /** The call that is on, if any; a second one may ring meanwhile, which is not it before it is accepted. */
  get call(): Call | undefined {
    return this.#current?.call.state === 'ended' ? undefined : this.#current?.call
  }

  /** What becomes of a ring while I am in a call, or want to be left alone. */
  get prefers(): Prefers {
    return { whenBusy: 'waiting', doNotDisturb: false, ...this.#readPrefers() }
  }

  /**
   * Whether I hide my addresses from the people I talk to: media goes over the server's relay only. Kept in `storage` for
   * this device; what is set holds from the next call on.
   */
  get alwaysRelay(): boolean {
    return this.#relayOnly || this.#storage.getItem(this.#key('relay')) === 'on'
  }

  set alwaysRelay(on: boolean) {
    if (on === this.alwaysRelay) return
    if (on) this.#storage.setItem(this.#key('relay'), 'on')
    else this.#storage.removeItem(this.#key('relay'))
    // The server keeps my addresses back, too: it hears of it in a hello.
    this.#connection.helloAgain()
  }

  /**
   * Whether I hide my addresses, as with `alwaysRelay`, from somebody who calls me for the first time: whom I have never
   * called, and of whom I have accepted no call. True by default. Kept in `storage` for this device.
   */
  get relayStrangers(): boolean {
    return this.#storage.getItem(this.#key('strangers')) !== 'direct'
  }

  set relayStrangers(on: boolean) {
    if (on) this.#storage.removeItem(this.#key('strangers'))
    else this.#storage.setItem(this.#key('strangers'), 'direct')
  }

  /** What the place at this server is; needs no connection. */
  place(): Promise<Place> {
    return fetchPlace(this.#server)
  }

  /**
   * Comes online and stays so by itself; rejects when the server refuses, and says why. A browser without WebRTC is
   * refused at once (`unsupported`): a person who cannot take a call must not be called.
   */
  async connect(as: { name?: string } = {}): Promise<User> {
    if (!abilities().calls) {
      throw new VisavisError('unsupported', 'This browser has no WebRTC, or it is switched off.')
    }
    this.#name = as.name ?? this.#name
    if (this.state === 'online' && this.#user) return this.#user
    this.#connecting ??= deferred()
    const { promise } = this.#connecting
    this.#unwatch ??= this.#watch()
    if (this.#claiming) {
      // Left meanwhile, nobody waits any more.
      void this.#claiming.then(() => this.#connecting && this.#connection.open())
    } else {
      this.#connection.open()
    }
    return promise
  }

  /** Changes how I am called, also in a call; rejects when the server refuses that, and all stays as it was. */
  async rename(name: string): Promise<User> {
    this.#renaming?.reject(new VisavisError('bad_name', 'Another name came after that.'))
    this.#renaming = { ...deferred(), before: this.#name }
    this.#name = name
    const { promise } = this.#renaming
    if (this.state === 'online') this.#connection.helloAgain()
    else this.connect().catch(() => undefined)
    return promise
  }

  /** Says what becomes of a ring while I am in a call, or want to be left alone, on all my devices. */
  prefer(change: Partial<Prefers>): void {
    const before = this.prefers
    const prefers = { ...before, ...change }
    this.#prefers = prefers
    this.#storage.setItem(this.#key('prefers'), JSON.stringify(prefers))
    this.#connection.send({ type: 'prefer', ...prefers })
    if (prefers.doNotDisturb !== before.doNotDisturb) this.push.renew()
  }

  /** Leaves: ends a call, and for the others I am offline at once; with `forget` I come back as another. */
  close(options: { forget?: boolean } = {}): void {
    this.#waiting?.call.decline()
    this.call?.hangup()
    this.#connection.close()
    this.#memory.forget()
    this.#localEnds.clear()
    this.#unwatch?.()
    this.#unwatch = undefined
    this.#connecting?.reject(leftError())
    this.#connecting = undefined
    if (!options.forget) return
    this.#forgetMe()
    this.#name = undefined
  }

  /**
   * Signs out everywhere: no page that has my token is me any more, this one included, and no device is rung for me. What I
   * was is gone for good. Rejects when the server cannot do that now; then all stays as it was.
   */
  async signOut(): Promise<void> {
    const token = this.#token
    if (token === undefined) throw new VisavisError('offline', 'Nobody is here to sign out.')
    await deleteLogins(this.#server, token)
    this.close({ forget: true })
  }

  #forgetMe(): void {
    this.push.forget(this.#token)
    this.#keepToken(undefined)
    this.#prefers = {}
    this.#storage.removeItem(this.#key('prefers'))
    this.#storage.removeItem(this.#key('relay'))
  }

  /**
   * Rings a user, by id; returns at once, and the call's state tells the rest. Who is ringing me at that
   * moment is answered.
   */
  ring(user: string, options: { video?: boolean } = {}): Call {
    const theirs = [this.#current, this.#waiting].find(
      (handle) => handle?.call.peer.id === user,
    )?.call
    if (theirs?.direction === 'in' && theirs.state === 'ringing') {
      theirs.accept(options)
      return theirs
    }
    const { id, name } = this.#users.get(user) ?? { id: user, name: '' }
    const video = options.video ?? true
    const handle = Call.begin(this.#callOwner, { how: 'out', peer: { id, name }, video })
    const ref = `${++this.#refs}`
    const early = this.#callOwner.early ? { early: true as const } : {}
    // The page gets the call before it hears what became of it.
    const refuse = (error: VisavisError) => queueMicrotask(() => handle.input.refused(error))
    if (this.call) {
      refuse(new VisavisError('in_call', 'You are in a call already.'))
    } else if (!this.#connection.send({ type: 'ring', ref, to: user, video, ...early })) {
      refuse(new VisavisError('offline', 'There is no connection to the server.'))
    } else {
      this.#rings.set(ref, handle)
      handle.input.ringSent()
      this.#begin(handle)
      this.#superviseRing(ref)
    }
    return handle.call
  }

  /** Ends a ring that the server does not answer: a network may drop everything without an error. */
  #superviseRing(ref: string): void {
    setTimeout(() => this.#rings.has(ref) && this.#connection.check(), checkRingMs)
    setTimeout(() => {
      const error = new VisavisError('offline', 'The server does not answer.')
      // Should it name the call after all, that is hung up.
      this.#rings.get(ref)?.input.refused(error)
    }, giveUpRingMs)
  }

  /** My ended calls, newest first: at most `limit`, those before the call with the id `before`. */
  calls(options: { before?: string; limit?: number } = {}): Promise<CallList> {
    return fetchCalls(this.#server, this.#token, options)
  }

  #key(what: 'token' | 'prefers' | 'push' | 'relay' | 'strangers'): string {
    return `visavis.${what} ${this.#server.origin}`
  }

  #keepToken(token: string | undefined): void {
    this.#token = token
    if (token === undefined) this.#storage.removeItem(this.#key('token'))
    else this.#storage.setItem(this.#key('token'), token)
  }

  /** Another tab may have changed it meanwhile. */
  #readPrefers(): Partial<Prefers> {
    return readPrefers(this.#storage.getItem(this.#key('prefers'))) ?? this.#prefers
  }

  #welcomedTimings(): Timings {
    if (!this.#timings) throw new Error('unreachable: there is no call before a welcome')
    return this.#timings
  }

  #watch(): () => void {
    const unwatch = watchNetwork((change) => {
      this.#connection.helloAgain()
      if (change !== 'perhaps') this.#memory.transportWorked(undefined)
      this.#current?.input.networkChanged(change)
    })
    const tabs = new Tabs(this.#server.origin, {
      inCall: () => (this.#inCall() ? this.#user?.id : undefined),
      otherTabInCall: (user) => {
        const handle = this.#current
        if (user === this.#user?.id && handle?.call.waiting) handle.input.otherTabInCall()
      },
    })
    this.#tabs = tabs
    const show = () => this.#connection.show()
    globalThis.document?.addEventListener('visibilitychange', show)
    globalThis.addEventListener?.('pagehide', this.#pageHidden)
    return () => {
      unwatch()
      tabs.close()
      globalThis.document?.removeEventListener('visibilitychange', show)
      globalThis.removeEventListener?.('pagehide', this.#pageHidden)
    }
  }

  readonly #pageHidden = (event: Event): void => {
    for (const { call } of this.#localEnds.values()) this.#sendHangupBeacon(call)
    const frozen = 'persisted' in event && event.persisted === true
    if (frozen || this.#nextPageIsKnown()) return
    const { resume } = this.#memory.saved
    // Firefox closes a WebSocket before what the page says as it goes.
    if (resume !== undefined) sendLeave(this.#server, resume)
    this.#connection.close()
  }

  /**
   * Whether the server knows the page that comes after this one. If it does not, this page leaves as it goes: its name is
   * free for the person who returns.
   */
  #nextPageIsKnown(): boolean {
    const returns = this.call !== undefined && this.#memory.survivesReload
    return this.#given || returns || this.#storage.lasts(this.#key('token'))
  }

  /** Sends a hang-up by a beacon, which needs no connection and outlives this page. */
  #sendHangupBeacon(call: string): void {
    const { resume } = this.#memory.saved
    if (resume !== undefined) sendHangup(this.#server, resume, call)
  }

  #begin(handle: CallHandle): void {
    this.#current = handle
    this.emit('call', handle.call)
  }

  #welcomed(welcome: Welcome): void {
    this.#user = welcome.user
    this.#timings = welcome.timings
    if (welcome.iceServers.length > 0) this.#iceServers = welcome.iceServers
    if (welcome.token !== undefined) this.#keepToken(welcome.token)
    this.#memory.save({ resume: welcome.resume })
    this.#renaming?.resolve(welcome.user)
    this.#renaming = undefined
    this.push.online(!welcome.resumed)
    if (!welcome.resumed) {
      this.#sessionLost(
        new VisavisError('offline', 'The connection to the server was lost.'),
        false,
      )
    }
    this.#presence(welcome.users, !welcome.partial, welcome.presenceAt)
  }

  #refused(error: VisavisError): boolean {
    if (this.#renaming) {
      this.#name = this.#renaming.before
      this.#renaming.reject(error)
      this.#renaming = undefined
      return true
    }
    if (error.code === 'signed_out') {
      this.#memory.forget()
      this.#forgetMe()
      return false
    }
    const stale = error.code === 'unauthorized' && this.#token !== undefined
    const taken = error.code === 'name_taken' && this.#token === undefined
    if ((stale || taken) && this.#useOtherTabsToken()) return true
    if (!stale) return false
    // Who is let in by their name is rung under that from now on.
    if (this.#name === undefined) this.push.forget(this.#token)
    this.#keepToken(undefined)
    return this.#name !== undefined
  }

  /** Another tab of this person has come in anew, and has a fresh token: all of them are one. */
  #useOtherTabsToken(): boolean {
    const kept = this.#storage.getItem(this.#key('token')) ?? undefined
    if (this.#given || kept === undefined || kept === this.#token) return false
    this.#token = kept
    return true
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
        const error = change.error ?? leftError()
        this.#connecting = undefined
        settle?.reject(error)
        this.#sessionLost(error, true)
        this.#user = undefined
        this.#presence([], true, undefined)
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
        this.#presence(message.users, message.all, message.at)
        return
      case 'ring':
        this.#rung(message)
        return
      case 'error': {
        this.#errorReceived(message)
        return
      }
      case 'calling': {
        const handle = message.ref === undefined ? undefined : this.#takeRing(message.ref)
        handle?.input.receive(message)
        return
      }
      case 'merged': {
        const handle = message.ref === undefined ? undefined : this.#takeRing(message.ref)
        const crossing = this.#takeCrossing(message.call)
        handle?.input.merged(message, crossing?.ring.iceServers)
        return
      }
      case 'rejoin':
        this.#rejoined(message)
        return
      case 'ended':
      case 'elsewhere':
        this.#queued = this.#queued.filter(({ ring }) => ring.call !== message.call)
        this.#endConfirmed(message.call)
        this.#takeCrossing(message.call)
        this.#handleOf(message.call)?.input.receive(message)
        return
      default:
        this.#handleOf(message.call)?.input.receive(message)
    }
  }

  #errorReceived(message: ErrorMessage): void {
    const { code, ref, call } = message
    const error = new VisavisError(code, message.message)
    if (code === 'unavailable' && call !== undefined) {
      setTimeout(() => this.#resendTicket(call), unavailableMs)
      return
    }
    if (call !== undefined) this.#endConfirmed(call)
    const { saved } = this.#memory
    const over = code === 'bad_ticket' || code === 'unknown_call'
    if (over && saved.call?.id === call) this.#memory.save({ call: undefined })
    const handle = ref === undefined ? this.#handleOf(call) : this.#takeRing(ref)
    handle?.input.refused(error)
  }

  /** Takes note of who changed, or, with `all`, of all who are here. */
  #presence(changed: readonly User[], all: boolean, at: string | undefined): void {
    this.#presenceAt = at
    const me = changed.find(({ id }) => id === this.#user?.id)
    if (me !== undefined && !all) this.#user = me
    const others = changed.filter((user) => user !== me)
    if (others.length === 0 && !all) return
    const users = new Map(all ? [] : this.#users)
    for (const user of others) {
      if (user.presence === 'offline') users.delete(user.id)
      else users.set(user.id, user)
    }
    this.#users = users
    this.emit('users', this.users)
  }

  #rung(ring: RingMessage): void {
    const { call } = this
    const ringing = call?.direction === 'out' && call.id === undefined
    if (ringing && call.peer.id === ring.from.id) {
      this.#crossing = { ring, at: performance.now() }
      return
    }
    // Rung once more: a session that came back gets what it may have missed.
    if (this.#handleOf(ring.call)) return
    if (call && this.#waiting) {
      this.#queued = this.#queued.filter((queued) => queued.ring.call !== ring.call)
      this.#queued.push({ ring, at: performance.now() })
      return
    }
    const early = this.#connectsEarly(ring)
    this.#connection.send({ type: 'ringing', call: ring.call, ...(early ? { early } : {}) })
    const handle = Call.begin(this.#callOwner, { how: 'in', ring, early: early ?? false })
    const answered = this.#pendingAnswer.claim(ring.call)
    if (call) {
      this.#waiting = handle
      this.emit('ring', handle.call)
      if (answered) handle.call.accept()
      return
    }
    if (answered) handle.call.accept()
    this.#begin(handle)
    if (!answered) this.emit('ring', handle.call)
    if (ring.waiting && this.#user) this.#tabs?.askWhetherInCall(this.#user.id)
  }

  /** Whether a call of mine is on in this tab, other than one that rings here. */
  #inCall(): boolean {
    const { call } = this
    return call !== undefined && !(call.direction === 'in' && call.state === 'ringing')
  }

  /** The person has answered a call on its notification: it is accepted, here or as soon as it rings here. */
  #answered(call: Answered): void {
    const handle = this.#handleOf(call.answer)
    if (handle) {
      handle.call.accept()
      return
    }
    this.#pendingAnswer.expect(call)
    // A page that was frozen may have missed the ring, and not know that its connection is gone.
    this.#connection.helloAgain()
  }

  /** Whether to connect to who rings before anyone has accepted: in the page that the person sees. */
  #connectsEarly(ring: RingMessage): true | undefined {
    return (
      (ring.early && this.#callOwner.early && isVisible() && hasRelay(ring.iceServers)) || undefined
    )
  }

  #rejoined(message: RejoinMessage): void {
    const saved = this.#memory.saved
    const end = this.#localEnds.get(message.call)
    if (end || message.call === saved.hungUp) {
      const known = { type: 'hangup', call: message.call } as const
      this.#connection.send(end ? late(hangup(end), end.at) : known)
      return
    }
    const handle = this.#current
    if (handle?.input.continuesAs(message.call)) {
      this.#sentTickets.delete(message.call)
      handle.input.rejoined(message)
      return
    }
    if (this.call) return
    const answered = this.#pendingAnswer.claim(message.call)
    if (!answered && !this.#wasIn(message)) {
      // Whatever the server believes: no camera opens for a call that nobody here took.
      this.#connection.send({ type: 'hangup', call: message.call })
      return
    }
    const taken = Call.begin(this.#callOwner, {
      how: 'rejoined',
      rejoin: message,
      saved: saved.call,
    })
    if (answered) taken.call.accept()
    this.#begin(taken)
  }

  /** Whether the page before this one was in a call, and so lately that it can still be on. */
  #wasIn(message: RejoinMessage): boolean {
    return (
      this.#memory.saved.call?.id === message.call && !(message.active && this.#savedTooLongAgo())
    )
  }

  #handleOf(call: string | undefined): CallHandle | undefined {
    if (call === undefined) return undefined
    return [this.#current, this.#waiting].find((handle) => handle?.call.id === call)
  }

  #takeRing(ref: string): CallHandle | undefined {
    const handle = this.#rings.get(ref)
    this.#rings.delete(ref)
    return handle
  }

  #takeCrossing(call: string) {
    const crossing = this.#crossing
    if (crossing?.ring.call !== call) return undefined
    this.#crossing = undefined
    return crossing
  }

  #endedHere(end: LocalEnd): void {
    this.#localEnds.set(end.call, end)
    if (end.type === 'decline') this.#tabs?.announce(end.call)
    this.#memory.save({ call: undefined, hungUp: end.call })
    if (!end.rejoining) {
      this.#connection.send(
        end.type === 'hangup' ? hangup(end) : { type: end.type, call: end.call },
      )
    }
    // At once: Firefox may close a page without what it says as it goes. A beacon cannot say that a call failed.
    if (end.detail === undefined) this.#sendHangupBeacon(end.call)
  }

  /** The server confirmed that a call is over. */
  #endConfirmed(call: string): void {
    this.#sentTickets.delete(call)
    if (this.#localEnds.delete(call)) this.emit('callrecorded', call)
    if (this.#memory.saved.hungUp === call) this.#memory.save({ hungUp: undefined })
  }

  #accepting(call: CallIdentity): readonly MediaStreamTrack[] {
    const waiting = this.#waiting
    const before = this.#current
    if (waiting?.call !== call || !before) return []
    return before.input.handOver()
  }

  #ended(call: CallIdentity): void {
    if (this.#memory.saved.call?.id === call.id) this.#memory.save({ call: undefined })
    if (this.#waiting?.call === call) {
      this.#waiting = undefined
      this.#ringNextQueued()
    }
    if (this.#current?.call !== call) return
    this.#waiting?.input.otherCallEnded()
    this.#current = this.#waiting
    this.#waiting = undefined
    this.emit('call', this.#current?.call)
    this.#ringCrossing()
    this.#ringNextQueued()
  }

  /** Lets the oldest queued ring ring, if there is room for it. */
  #ringNextQueued(): void {
    while (!(this.call && this.#waiting)) {
      const next = this.#queued.shift()
      if (!next) return
      const ringMs = next.ring.ringMs - (performance.now() - next.at)
      if (ringMs > shortestRingMs) this.#rung({ ...next.ring, ringMs })
    }
  }

  /** My ring came to nothing: the one that crossed it rings after all. */
  #ringCrossing(): void {
    const crossing = this.#crossing
    this.#crossing = undefined
    const ringMs = crossing ? crossing.ring.ringMs - (performance.now() - crossing.at) : 0
    if (crossing && ringMs > 0) this.#rung({ ...crossing.ring, ringMs })
  }

  /** The session is new, or there will be none (`final`): what can go on asks for its place. */
  #sessionLost(error: VisavisError, final: boolean): void {
    this.#rings.clear()
    this.#queued = []
    this.#crossing = undefined
    this.#waiting?.input.sessionLost(error, final)
    const ends = [...this.#localEnds.values()]
    for (const { call, ticket } of ends) if (ticket === undefined) this.#endConfirmed(call)
    const ticket = this.#current?.input.sessionLost(error, final)
    if (final) return
    this.#sentTickets.clear()
    const mine = ticket ?? this.#savedCall()
    if (mine) this.#sendTicket(mine)
    for (const { call, ticket } of ends) {
      if (ticket !== undefined) this.#sendTicket({ call, ticket, relayOnly: false })
    }
  }

  /** Sends a ticket and keeps it until the server has answered. */
  #sendTicket(callTicket: CallTicket): void {
    const { call, ticket, relayOnly } = callTicket
    this.#sentTickets.set(call, callTicket)
    this.#connection.send({ type: 'rejoin', ticket, call, ...(relayOnly ? { relayOnly } : {}) })
  }

  /** Sends a ticket once more, unless the call is over by now. */
  #resendTicket(call: string): void {
    const sent = this.#sentTickets.get(call)
    const mine = this.#handleOf(call) !== undefined || this.#localEnds.has(call)
    if (sent && (mine || this.#savedCall()?.call === call)) this.#sendTicket(sent)
  }

  /** The call of the page before, if that can still be there. */
  #savedCall(): CallTicket | undefined {
    const { call } = this.#memory.saved
    if (this.#current || this.#savedTooLongAgo() || call?.ticket === undefined) return undefined
    return { call: call.id, ticket: call.ticket, relayOnly: call.relayOnly }
  }

  /** Whether a call of the page before has been without it for longer than a call waits for a party. */
  #savedTooLongAgo(): boolean {
    const { aliveAt = 0 } = this.#memory.saved
    return Date.now() - aliveAt > this.#welcomedTimings().partyGraceMs
  }
}

function hangup({ call, detail }: LocalEnd): HangupMessage {
  return detail === undefined ? { type: 'hangup', call } : { type: 'hangup', call, detail }
}

/** A call, and the methods of it that only the client calls. */
interface CallHandle {
  readonly call: Call
  readonly input: CallInput
}

function storageOrDefault(
  storage: Storage | null | undefined,
  name: 'localStorage' | 'sessionStorage',
): KeptStorage {
  return storage === undefined ? openStorage(name) : new KeptStorage(storage)
}

/** Whether the person sees this page. */
function isVisible(): boolean {
  return (globalThis.document?.visibilityState ?? 'visible') === 'visible'
}

function leftError(): VisavisError {
  return new VisavisError('offline', 'The page has left the server.')
}

/** A promise that is settled from outside, after several tries if need be. */
interface Deferred {
  readonly promise: Promise<User>
  resolve(user: User): void
  reject(error: VisavisError): void
}

function deferred(): Deferred {
  let settle: Omit<Deferred, 'promise'> = { resolve: () => undefined, reject: () => undefined }
  const promise = new Promise<User>((resolve, reject) => {
    settle = { resolve, reject }
  })
  return { promise, ...settle }
}
