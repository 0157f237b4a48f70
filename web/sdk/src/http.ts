import { VisavisError } from './error.ts'
import { count, fields, flag, list, Malformed, oneOf, optional, text } from './read.ts'
import { type EndReason, endReason, person } from './wire.ts'

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

/** What the place at this server is. */
export async function fetchPlace(server: URL): Promise<Place> {
  return get(new URL('/v1/place', server), undefined, (body) => {
    const m = fields<keyof Place>(body)
    return { name: text(m.name), access: oneOf(m.access, ['open', 'accounts']) }
  })
}

/** My ended calls, newest first: at most `limit`, those before the call `before`. */
export async function fetchCalls(
  server: URL,
  token: string | undefined,
  options: { before?: string; limit?: number },
): Promise<CallRecord[]> {
  const url = new URL('/v1/calls', server)
  if (options.before !== undefined) url.searchParams.set('before', options.before)
  if (options.limit !== undefined) url.searchParams.set('limit', `${options.limit}`)
  return get(url, token, (body) => [...list(fields<'calls'>(body).calls, callRecord)])
}

/** Hangs up for a page that goes, as the session of the resume token; whether it was sent is not known. */
export function sendHangup(server: URL, resume: string, call: string): void {
  navigator.sendBeacon?.(new URL('/v1/hangup', server), JSON.stringify({ resume, call }))
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

async function get<T>(url: URL, token: string | undefined, read: (body: unknown) => T): Promise<T> {
  const headers = token === undefined ? {} : { Authorization: `Bearer ${token}` }
  const response = await fetch(url, { headers, credentials: 'omit', cache: 'no-store' }).catch(
    () => {
      throw new VisavisError('offline', 'The server cannot be reached.')
    },
  )
  const body: unknown = await response.json().catch(() => undefined)
  try {
    if (response.ok) return read(body)
    const m = fields<'code' | 'message'>(body)
    throw new VisavisError(text(m.code), text(m.message))
  } catch (error) {
    if (!(error instanceof Malformed)) throw error
    throw new VisavisError('internal', `The server gave no answer of ours (${response.status}).`)
  }
}
