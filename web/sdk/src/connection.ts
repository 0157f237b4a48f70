import { VisavisError } from './error.ts'
import {
  type ClientMessage,
  decode,
  encode,
  type Hello,
  late,
  type ServerMessage,
  type Show,
  type Welcome,
  type WhenBusy,
} from './wire.ts'

/** Where the connection to the server stands. */
export type ConnectionState =
  /** Not asked for, or closed. */
  | 'idle'
  | 'connecting'
  | 'online'
  /** Lost; it comes back by itself. */
  | 'offline'
  /** The server said no, and the error says why: it takes a new connect to try again. */
  | 'refused'

/** A change of {@link ConnectionState}. */
export interface ConnectionChange {
  readonly old: ConnectionState
  readonly new: ConnectionState
  /** Why the server refused (`refused`), or `websocket_blocked` while `offline`. */
  readonly error: VisavisError | undefined
}

/** The user of a hello, and their preferences. */
export interface Identity {
  readonly name: string | undefined
  readonly token: string | undefined
  /** Whether to be told who is here; true by default. */
  readonly presence?: boolean
  /** What is known of that already. */
  readonly presenceAt?: string | undefined
  readonly whenBusy?: WhenBusy
  readonly doNotDisturb?: boolean
  readonly alwaysRelay?: boolean
  /** The device that is pushed to, as the server knows it, and whether the person sees this page of it. */
  readonly device?: string | undefined
  readonly visible?: boolean
}

/** What a connection asks and tells its owner. */
export interface ConnectionOwner {
  /** The content of a hello; asked again for each one. */
  identity(): Identity
  /** Whether to reconnect faster than usual. */
  urgent(): boolean
  /** Whether the server answers an HTTP request; false when the signal aborts it. */
  probe(signal: AbortSignal): Promise<boolean>
  /** A hello was refused. Returns whether the identity has changed, so that another hello may succeed. */
  refused(error: VisavisError): boolean
  /** A welcome came. Messages that a resumed session has missed follow it. */
  welcomed(welcome: Welcome): void
  received(message: SessionMessage): void
  changed(change: ConnectionChange): void
  /** Messages reach the server again: the connection was `lost`, or a hello has shown that it was not. */
  reached(lost: boolean): void
}

/** The server's messages within a session, except those that the connection handles itself. */
export type SessionMessage = Exclude<ServerMessage, { type: 'welcome' | 'ping' | 'restarting' }>

// Back-off with full jitter: a random part of a span that doubles from base to cap.
const backOffBaseMs = 500
const backOffCapMs = 10_000
// The cap during a call.
const urgentCapMs = 1000
// How long a new connection may take to its welcome: the server gives a hello as long.
const welcomeMs = 10_000
// How long the server may take to answer a hello that checks the connection.
const checkMs = 4000
// A server that was heard within this time is there.
const recentMs = 1000
const keptMessages = 256
// Browsers hold a WebSocket back after others that failed: Firefox from the third on, for up to a minute, Chromium from some
// ten on, for 1–5 s. So only the first try after a loss goes without asking whether the server is there.
const triesWithoutProbe = 1
// One WebSocket that does not open may have met a restart of the server.
const blockedTries = 2

const closeNormal = 1000
const closeSilent = 4002
const firstFinalClose = 4500
// RFC 6455 §7.4.1: abnormal closure, without a close frame.
const closeAbnormal = 1006
// Refusals of a hello after which another try may succeed.
const transientCodes = new Set(['restarting', 'full', 'rate_limited', 'unavailable', 'internal'])

/** A session, which outlives the sockets that carry it (PROTOCOL.md §2). */
interface Session {
  resume: string
  /** Number of the last message sent, and of the last received. */
  sent: number
  received: number
  /** The last messages that the server has not acknowledged, oldest first. */
  kept: { readonly seq: number; readonly message: ClientMessage; readonly at: number }[]
}

/**
 * The signaling connection: a WebSocket that comes back by itself, and the session that it
 * takes up again, so that no message is lost or doubled in between.
 */
export class Connection {
  readonly #url: string
  readonly #owner: ConnectionOwner
  #state: ConnectionState = 'idle'
  #session: Session | undefined
  /** The resume token of a page that this one takes the place of, until a welcome. */
  #takenOver: string | undefined
  #socket: WebSocket | undefined
  /** Whether the server has sent its welcome on that socket. */
  #hasWelcome = false
  /** How many sockets in a row did not open although the server had answered just before. */
  #blocked = 0
  /** Whether the server answered a request just before this socket, and the socket has not opened yet. */
  #mayBeBlocked = false
  /** The socket before this one, until the new one has its welcome. */
  #previous: WebSocket | undefined
  #pingMs = 0
  /** When the server said something last, by performance.now(). */
  #heardAt = Number.NEGATIVE_INFINITY
  /** What the server said of our hello, before it closes. */
  #refusal: VisavisError | undefined
  /** Ends the wait for the server's next message, or for the next try. */
  #timer: ReturnType<typeof setTimeout> | undefined
  #tries = 0
  /** The last `show` that was sent on this socket. */
  #lastShow: string | undefined
  /** Ends the probe that asks whether the server is there. */
  #probe: AbortController | undefined
  /** When the server asked us to come back. It replaces the back-off once. */
  #comeBack: { readonly minMs: number; readonly maxMs: number } | undefined

  constructor(url: string, owner: ConnectionOwner) {
    this.#url = url
    this.#owner = owner
  }

  get state(): ConnectionState {
    return this.#state
  }

  /** Whether messages reach the server now, as far as is known. False until a hello is answered. */
  get reachable(): boolean {
    return this.#hasWelcome
  }

  /** Connects now, unless it is connecting or online already. */
  open(): void {
    if (this.#state === 'connecting' || this.#state === 'online') return
    this.#stopWaiting()
    this.#tries = 0
    this.#connect(welcomeMs)
    this.#change('connecting', undefined)
  }

  /** The resume token of a page whose place this one takes, with the next welcome. */
  takeOver(resume: string): void {
    this.#takenOver = resume
  }

  /** Sends another hello in the same session, on a new socket: our identity has changed, or perhaps the network. */
  helloAgain(): void {
    if (this.#state === 'offline') this.open()
    if (this.#state !== 'online' || !this.#hasWelcome) return
    this.#previous = this.#release()
    this.#connect(checkMs)
  }

  /** Checks the connection by another hello, unless the server was heard in the last second. */
  check(): void {
    if (performance.now() - this.#heardAt >= recentMs) this.helloAgain()
  }

  /** Leaves for good: the session ends, and with it a call. */
  close(): void {
    this.#drop(closeNormal)
    this.#stop('idle', undefined)
  }

  /** Sends a message of the session, now or when it is resumed; false when there is no session. */
  send(message: ClientMessage): boolean {
    const session = this.#session
    if (!session) return false
    session.sent++
    session.kept.push({ seq: session.sent, message, at: performance.now() })
    if (session.kept.length > keptMessages) session.kept.shift()
    if (this.#hasWelcome) this.#socket?.send(encode(message, session.sent))
    return true
  }

  /** Tells the server whether the person sees this page, unless it knows that. */
  show(): void {
    const message = { type: 'show', ...this.#visibility() } as const
    const shown = encode(message)
    if (!this.#hasWelcome || shown === this.#lastShow) return
    this.#lastShow = shown
    this.#socket?.send(shown)
  }

  #visibility(): Pick<Show, 'device' | 'visible'> {
    const { device, visible = true } = this.#owner.identity()
    return device === undefined ? { visible: false } : { device, visible }
  }

  #connect(ms: number): void {
    this.#refusal = undefined
    this.#hasWelcome = false
    const socket = new WebSocket(this.#url)
    this.#socket = socket
    socket.onopen = () => {
      this.#mayBeBlocked = false
      this.#blocked = 0
      socket.send(encode(this.#hello()))
    }
    socket.onmessage = (event) => this.#receive(event.data)
    socket.onclose = (event) => this.#closed(event.code)
    this.#setDeadline(ms)
  }

  #hello(): Hello {
    const {
      name,
      token,
      presence = true,
      presenceAt,
      whenBusy,
      doNotDisturb,
      alwaysRelay,
    } = this.#owner.identity()
    const shows = this.#visibility()
    this.#lastShow = encode({ type: 'show', ...shows })
    return {
      type: 'hello',
      version: 1,
      ...(name === undefined ? {} : { name }),
      ...(token === undefined ? {} : { token }),
      presence,
      ...(presenceAt === undefined ? {} : { presenceAt }),
      ...this.#resume(),
      ...(whenBusy === undefined ? {} : { whenBusy }),
      ...(doNotDisturb === undefined ? {} : { doNotDisturb }),
      ...(alwaysRelay ? { alwaysRelay } : {}),
      ...(shows.device === undefined ? {} : shows),
    }
  }

  #resume(): Pick<Hello, 'resume' | 'received' | 'reload'> {
    if (this.#session) {
      return { resume: this.#session.resume, received: this.#session.received }
    }
    return this.#takenOver === undefined ? {} : { resume: this.#takenOver, reload: true }
  }

  #receive(data: unknown): void {
    const message = decode(data)
    this.#heardAt = performance.now()
    if (!this.#hasWelcome) {
      if (message?.type === 'welcome') this.#welcomed(message)
      if (message?.type === 'error') this.#refusal = new VisavisError(message.code, message.message)
      return
    }
    this.#setDeadline(2 * this.#pingMs)
    const session = this.#session
    if (!message || !session) return
    if (message.seq !== undefined) {
      if (message.seq <= session.received) return
      session.received = message.seq
    }
    switch (message.type) {
      case 'welcome':
        return
      case 'ping':
        acknowledge(session, message.ack)
        this.#socket?.send(encode({ type: 'pong', ack: session.received }))
        return
      case 'restarting':
        this.#comeBack = message
        return
      default:
        this.#owner.received(message)
    }
  }

  #welcomed(welcome: Welcome): void {
    this.#takenOver = undefined
    this.#closePrevious()
    const old = welcome.resumed ? this.#session : undefined
    const session = old ?? { resume: '', sent: 0, received: 0, kept: [] }
    session.resume = welcome.resume
    acknowledge(session, welcome.received)
    if (session.sent - session.kept.length > welcome.received) {
      // More is missing than we kept: the server must not go on with a gap.
      this.#session = undefined
      this.#drop(closeSilent)
      this.#connect(welcomeMs)
      return
    }
    this.#session = session
    this.#pingMs = welcome.timings.pingMs
    this.#tries = 0
    this.#setDeadline(2 * this.#pingMs)
    this.#owner.welcomed(welcome)
    // The page may have left in a listener.
    if (this.#session !== session) return
    for (const { seq, message, at } of session.kept) {
      this.#socket?.send(encode(message.type === 'hangup' ? late(message, at) : message, seq))
    }
    this.#hasWelcome = true
    this.show()
    const lost = this.#state !== 'online'
    this.#change('online', undefined)
    this.#owner.reached(lost)
  }

  #closed(code: number): void {
    this.#drop()
    const refusal = this.#refusal
    // A proxy may cut the connection before it has passed the server's own code.
    const cut = code === closeAbnormal && refusal !== undefined && !transientCodes.has(refusal.code)
    if (code < firstFinalClose && !cut) {
      this.#wait()
      return
    }
    const error = refusal ?? closeError(code)
    if (this.#owner.refused(error)) this.#connect(welcomeMs)
    else this.#stop('refused', error)
  }

  /** Gives up the socket: its later messages are ignored. */
  #release(): WebSocket | undefined {
    this.#stopWaiting()
    const socket = this.#socket
    if (socket) socket.onopen = socket.onmessage = socket.onclose = null
    this.#socket = undefined
    this.#hasWelcome = false
    return socket
  }

  #drop(code?: number): void {
    const socket = this.#release()
    if (code !== undefined) socket?.close(code)
  }

  #closePrevious(): void {
    this.#previous?.close(closeSilent)
    this.#previous = undefined
  }

  #wait(): void {
    this.#closePrevious()
    const { minMs, maxMs } = this.#comeBack ?? {
      minMs: 0,
      maxMs: Math.min(
        this.#owner.urgent() ? urgentCapMs : backOffCapMs,
        backOffBaseMs * 2 ** this.#tries,
      ),
    }
    this.#comeBack = undefined
    this.#tries++
    if (this.#mayBeBlocked) this.#blocked++
    this.#mayBeBlocked = false
    const again = () =>
      this.#tries > triesWithoutProbe ? this.#probeAndReconnect() : this.#reconnect()
    this.#timer = setTimeout(again, minMs + Math.random() * (maxMs - minMs))
    this.#change('offline', this.#blocked >= blockedTries ? blockedError() : undefined)
  }

  #reconnect(): void {
    this.#connect(welcomeMs)
    this.#change('connecting', undefined)
  }

  async #probeAndReconnect(): Promise<void> {
    const probe = new AbortController()
    this.#probe = probe
    this.#timer = setTimeout(() => probe.abort(), welcomeMs)
    const there = await this.#owner.probe(probe.signal)
    // It was opened or closed meanwhile.
    if (this.#probe !== probe) return
    this.#stopWaiting()
    if (!there) {
      this.#wait()
      return
    }
    this.#mayBeBlocked = true
    this.#reconnect()
  }

  #stopWaiting(): void {
    clearTimeout(this.#timer)
    this.#probe?.abort()
    this.#probe = undefined
  }

  #stop(state: 'idle' | 'refused', error: VisavisError | undefined): void {
    this.#closePrevious()
    this.#session = undefined
    this.#takenOver = undefined
    this.#comeBack = undefined
    this.#change(state, error)
  }

  #setDeadline(ms: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.#drop(closeSilent)
      this.#wait()
    }, ms)
  }

  #change(state: ConnectionState, error: VisavisError | undefined): void {
    const old = this.#state
    if (old === state) return
    this.#state = state
    this.#owner.changed({ old, new: state, error })
  }
}

function acknowledge(session: Session, ack: number): void {
  session.kept = session.kept.filter(({ seq }) => seq > ack)
}

function blockedError(): VisavisError {
  return new VisavisError(
    'websocket_blocked',
    'The server answers, but no WebSocket opens: this network or a proxy seems to block WebSockets.',
  )
}

/** What a close code of "do not come back" means, where no error message came before it. */
function closeError(code: number): VisavisError {
  switch (code) {
    case 4500:
    case 4501:
    case 4505:
      return new VisavisError('bad_message', 'The server did not understand this page.')
    case 4502:
      return new VisavisError('rate_limited', 'This page sent too much at once.')
    case 4503:
      return new VisavisError('wrong_session', 'Another connection has taken this session.')
    case 4506:
      return new VisavisError('signed_out', 'Signed out everywhere, from another page or device.')
    default:
      return new VisavisError('internal', 'The server refused the connection.')
  }
}
