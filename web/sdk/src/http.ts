import { count, fields, flag, list, Malformed, oneOf, optional, text } from './decoders.ts'
import { VisavisError } from './error.ts'
import { type EndReason, endReason, type PushState, person, pushStates } from './wire.ts'

/** What a server calls its place, and who may enter: everybody, or who has an account. */
export interface Place {
  readonly name: string
  readonly access: 'open' | 'accounts'
}

/** One ended call of mine. */
export interface CallRecord {
  readonly id: string
  readonly peer: { id: string; name: string }
  readonly direction: 'in' | 'out'
  readonly video: boolean
  readonly rungAt: Date
  readonly acceptedAt: Date | undefined
  readonly endedAt: Date
  readonly reason: EndReason
  readonly durationMs: number
  readonly missed: boolean
}

/** Ended calls of mine, as the server knew them. */
export interface CallList {
  /** Newest first. */
  readonly calls: readonly CallRecord[]
  /** Some of my calls are not in it yet: the server's database is slow or away. Ask again later. */
  readonly incomplete: boolean
  /** When the server answered, by the clock that the calls are dated by. */
  readonly at: Date
}

/** What the place at this server is. */
export async function fetchPlace(server: URL): Promise<Place> {
  return ask(new URL('/v1/place', server), {}, (body) => {
    const m = fields<keyof Place>(body)
    return { name: text(m.name), access: oneOf(m.access, ['open', 'accounts']) }
  })
}

/** Whether the server answers. Never rejects. It works across origins, too, where the answer cannot be read. */
export async function probeServer(server: URL, signal: AbortSignal): Promise<boolean> {
  const request: RequestInit = { mode: 'no-cors', cache: 'no-store', signal }
  const answer = await fetch(new URL('/v1/place', server), request).catch(() => undefined)
  // A proxy in front of a server that is away says so by a 502, 503 or 504.
  return answer !== undefined && answer.status < 500
}

/** My ended calls, newest first: at most `limit`, those before the call `before`. */
export async function fetchCalls(
  server: URL,
  token: string | undefined,
  options: { before?: string; limit?: number },
): Promise<CallList> {
  const url = new URL('/v1/calls', server)
  if (options.before !== undefined) url.searchParams.set('before', options.before)
  if (options.limit !== undefined) url.searchParams.set('limit', `${options.limit}`)
  return ask(url, { token }, (body) => {
    const m = fields<'calls' | 'incomplete' | 'now'>(body)
    return {
      calls: list(m.calls, callRecord),
      incomplete: optional(m.incomplete, flag) ?? false,
      at: date(m.now),
    }
  })
}

/** What a browser subscribes with at its push service; `not_found` where the server has push turned off. */
export async function fetchPushKey(server: URL): Promise<string> {
  return ask(new URL('/v1/push', server), {}, (body) => text(fields<'key'>(body).key))
}

/** Has this device told of rings: the subscription, and what its user wishes for all their devices. */
export async function putPush(
  server: URL,
  token: string | undefined,
  subscription: PushSubscriptionJSON,
  doNotDisturb: boolean,
): Promise<void> {
  const body = { endpoint: subscription.endpoint, keys: subscription.keys, doNotDisturb }
  return ask(new URL('/v1/push', server), { method: 'PUT', token, body }, () => undefined)
}

/** Has this device not told of rings any more; it is sent also when the page goes. */
export async function deletePush(
  server: URL,
  token: string | undefined,
  endpoint: string,
): Promise<void> {
  const request = { method: 'DELETE', token, body: { endpoint }, keepalive: true } as const
  return ask(new URL('/v1/push', server), request, () => undefined)
}

/** Has every token of mine be good no more, and ends all my sessions. */
export async function deleteLogins(server: URL, token: string): Promise<void> {
  const request = { method: 'DELETE', token, keepalive: true } as const
  return ask(new URL('/v1/logins', server), request, () => undefined)
}

/** What a device that was pushed a call says of it: it rings, the person declined, or it only asks. */
export type PushedAct = 'ringing' | 'decline' | 'ask'

/** Says that, and tells how the call stands then; `key` is the pushed message's. */
export async function postPushed(
  server: URL,
  pushed: { call: string; key: string; act: PushedAct },
  withinMs: number,
): Promise<{ state: PushState; ringMs: number }> {
  const request = { method: 'POST', body: pushed, withinMs } as const
  return ask(new URL('/v1/pushed', server), request, (body) => {
    const m = fields<'state' | 'ringMs'>(body)
    return { state: oneOf(m.state, pushStates), ringMs: optional(m.ringMs, count) ?? 0 }
  })
}

/** Hangs up as the session of the resume token, also for a page that goes; whether it was sent is not known. */
export function sendHangup(server: URL, resume: string, call: string): void {
  navigator.sendBeacon?.(new URL('/v1/hangup', server), JSON.stringify({ resume, call }))
}

/** Says that the page of this session goes for good. */
export function sendLeave(server: URL, resume: string): void {
  navigator.sendBeacon?.(new URL('/v1/leave', server), JSON.stringify({ resume }))
}

function callRecord(value: unknown): CallRecord {
  const m = fields<keyof CallRecord>(value)
  return {
    id: text(m.id),
    peer: person(m.peer),
    direction: oneOf(m.direction, ['in', 'out']),
    video: flag(m.video),
    rungAt: date(m.rungAt),
    acceptedAt: optional(m.acceptedAt, date),
    endedAt: date(m.endedAt),
    reason: endReason(m.reason),
    durationMs: count(m.durationMs),
    missed: flag(m.missed),
  }
}

function date(value: unknown): Date {
  const read = new Date(text(value))
  if (Number.isNaN(read.getTime())) throw new Malformed()
  return read
}

interface Request {
  readonly method?: 'PUT' | 'DELETE' | 'POST'
  readonly token?: string | undefined
  readonly body?: object
  readonly keepalive?: boolean
  readonly withinMs?: number
}

async function ask<T>(url: URL, request: Request, read: (body: unknown) => T): Promise<T> {
  const { method = 'GET', token, body, keepalive = false, withinMs } = request
  const response = await fetch(url, {
    method,
    headers: token === undefined ? {} : { Authorization: `Bearer ${token}` },
    // As plain text, which a page of another origin need not ask leave for.
    body: body ? JSON.stringify(body) : null,
    keepalive,
    signal: withinMs === undefined ? null : AbortSignal.timeout(withinMs),
    credentials: 'omit',
    cache: 'no-store',
  }).catch(() => {
    throw new VisavisError('offline', 'The server cannot be reached.')
  })
  const answer: unknown = await response.json().catch(() => undefined)
  try {
    if (response.ok) return read(answer)
    const m = fields<'code' | 'message'>(answer)
    throw new VisavisError(text(m.code), text(m.message))
  } catch (error) {
    if (!(error instanceof Malformed)) throw error
    throw new VisavisError('internal', `The server gave no answer of ours (${response.status}).`)
  }
}
