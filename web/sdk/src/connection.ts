import { VisavisError } from './error.ts'
import {
  type ClientMessage,
  decode,
  encode,
  type Hello,
  type ServerMessage,
  type Welcome,
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

/** A change of state; `error` is there with `refused`. */
export interface ConnectionChange {
  readonly old: ConnectionState
  readonly new: ConnectionState
  readonly error: VisavisError | undefined
}

/** Who comes, in a hello. */
export interface Identity {
  readonly name: string | undefined
  readonly token: string | undefined
}

/** What a connection asks and tells its owner. */
export interface ConnectionOwner {
  /** Who to say we are; asked again for each hello. */
  identity(): Identity
  /** The token was refused and is worth nothing any more. */
  forgetToken(): void
  /** A welcome; what was missed of a resumed session follows it as messages. */
  welcomed(welcome: Welcome): void
  received(message: SessionMessage): void
  changed(change: ConnectionChange): void
}

/** What the server says within a session that is not the connection's own affair. */
export type SessionMessage = Exclude<ServerMessage, { type: 'welcome' | 'ping' | 'restarting' }>

// Back-off with full jitter: a random part of a span that doubles from base to cap.
const backOffBaseMs = 500
const backOffCapMs = 10_000
// How long a new connection may take to its welcome: the server gives a hello as long.
const welcomeMs = 10_000
const keptMessages = 256

const closeLeaving = 1000
const closeSilent = 4002
const firstFinalClose = 4500

/** A session, which outlives the sockets that carry it (PROTOCOL.md §2). */
interface Session {
  resume: string
  /** Number of the last message sent, and of the last received. */
  sent: number
  received: number
  /** The last messages that the server has not acknowledged, oldest first. */
  kept: { readonly seq: number; readonly frame: string }[]
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
  #socket: WebSocket | undefined
  #pingMs = 0
  /** What the server said of our hello, before it closes. */
  #refusal: VisavisError | undefined
  /** Ends the wait for a sign of life, or for the next try. */
  #timer: ReturnType<typeof setTimeout> | undefined
  #tries = 0
  /** When the server asked us to come back; once, instead of the back-off. */
  #comeBack: { readonly minMs: number; readonly maxMs: number } | undefined

  constructor(url: string, owner: ConnectionOwner) {
    this.#url = url
    this.#owner = owner
  }

  get state(): ConnectionState {
    return this.#state
  }

  /** Connects now, unless it is connecting or online already. */
  open(): void {
    if (this.#state === 'connecting' || this.#state === 'online') return
    globalThis.addEventListener?.('online', this.#networkIsBack)
    this.#tries = 0
    this.#connect()
  }

  /** Leaves for good: the session ends, and with it a call. */
  close(): void {
    this.#drop(closeLeaving)
    this.#rest('idle', undefined)
  }

  /** Sends a message of the session, now or when it is resumed; false when there is no session. */
  send(message: ClientMessage): boolean {
    const session = this.#session
    if (!session) return false
    session.sent++
    const frame = encode(message, session.sent)
    session.kept.push({ seq: session.sent, frame })
    if (session.kept.length > keptMessages) session.kept.shift()
    if (this.#state === 'online') this.#socket?.send(frame)
    return true
  }

  #connect(): void {
    this.#refusal = undefined
    const socket = new WebSocket(this.#url)
    this.#socket = socket
    socket.onopen = () => socket.send(encode(this.#hello()))
    socket.onmessage = (event) => this.#receive(event.data)
    socket.onclose = (event) => this.#closed(event.code)
    this.#expectLife(welcomeMs)
    this.#change('connecting', undefined)
  }

  #hello(): Hello {
    const { name, token } = this.#owner.identity()
    return {
      type: 'hello',
      version: 1,
      ...(name === undefined ? {} : { name }),
      ...(token === undefined ? {} : { token }),
      presence: true,
      ...(this.#session && { resume: this.#session.resume, received: this.#session.received }),
    }
  }

  #receive(data: unknown): void {
    const message = decode(data)
    if (this.#state === 'connecting') {
      if (message?.type === 'welcome') this.#welcomed(message)
      if (message?.type === 'error') this.#refusal = new VisavisError(message.code, message.message)
      return
    }
    this.#expectLife(2 * this.#pingMs)
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
    const old = welcome.resumed ? this.#session : undefined
    const session = old ?? { resume: '', sent: 0, received: 0, kept: [] }
    session.resume = welcome.resume
    acknowledge(session, welcome.received)
    if (session.sent - session.kept.length > welcome.received) {
      // More is missing than we kept: the server must not go on with a gap.
      this.#session = undefined
      this.#drop(closeSilent)
      this.#connect()
      return
    }
    this.#session = session
    this.#pingMs = welcome.timings.pingMs
    this.#tries = 0
    this.#expectLife(2 * this.#pingMs)
    this.#owner.welcomed(welcome)
    // What the owner told the page may have made it leave.
    if (this.#session !== session) return
    for (const { frame } of session.kept) this.#socket?.send(frame)
    this.#change('online', undefined)
  }

  #closed(code: number): void {
    this.#drop()
    if (code < firstFinalClose) {
      this.#wait()
      return
    }
    const error = this.#refusal ?? closeError(code)
    const { name, token } = this.#owner.identity()
    if (error.code === 'unauthorized' && token !== undefined) {
      this.#owner.forgetToken()
      if (name !== undefined) {
        this.#session = undefined
        this.#connect()
        return
      }
    }
    this.#rest('refused', error)
  }

  /** Lets go of the socket: whatever it still says is heard no more. */
  #drop(code?: number): void {
    clearTimeout(this.#timer)
    const socket = this.#socket
    if (!socket) return
    this.#socket = undefined
    socket.onopen = socket.onmessage = socket.onclose = null
    if (code !== undefined) socket.close(code)
  }

  #wait(): void {
    const { minMs, maxMs } = this.#comeBack ?? {
      minMs: 0,
      maxMs: Math.min(backOffCapMs, backOffBaseMs * 2 ** this.#tries),
    }
    this.#comeBack = undefined
    this.#tries++
    this.#timer = setTimeout(() => this.#connect(), minMs + Math.random() * (maxMs - minMs))
    this.#change('offline', undefined)
  }

  #rest(state: 'idle' | 'refused', error: VisavisError | undefined): void {
    globalThis.removeEventListener?.('online', this.#networkIsBack)
    this.#session = undefined
    this.#comeBack = undefined
    this.#change(state, error)
  }

  #expectLife(ms: number): void {
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

  readonly #networkIsBack = (): void => {
    if (this.#state !== 'offline') return
    clearTimeout(this.#timer)
    this.open()
  }
}

function acknowledge(session: Session, ack: number): void {
  session.kept = session.kept.filter(({ seq }) => seq > ack)
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
    default:
      return new VisavisError('internal', 'The server refused the connection.')
  }
}
