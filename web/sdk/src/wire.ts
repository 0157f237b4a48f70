/**
 * The messages of PROTOCOL.md, as they travel. What comes off the socket is unknown until
 * {@link decode} has looked at every field that it keeps.
 */

import {
  count,
  type Fields,
  fields,
  flag,
  list,
  Malformed,
  oneOf,
  optional,
  text,
} from './decoders.ts'

/** What others may know of where a user is; `busy` is in a call, ringing or active. */
export type Presence = (typeof presences)[number]
const presences = ['online', 'busy', 'offline'] as const

/** What others may know of a person. */
export interface User {
  readonly id: string
  readonly name: string
  readonly presence: Presence
}

/** Why a call ended, as PROTOCOL.md lists it. */
export type EndReason = (typeof endReasons)[number]
/** All of them. */
export const endReasons = [
  'hungup',
  'canceled',
  'declined',
  'unanswered',
  'unreachable',
  'busy',
  'blocked',
  'merged',
  'migrated',
  'failed',
  'lost',
  'limit',
  'terminated',
  'restarted',
] as const

/** How a party's side of the media stands. */
export type MediaConnection = (typeof mediaConnections)[number]
const mediaConnections = ['connecting', 'connected', 'reconnecting', 'reloading'] as const

/** Why a call failed: PROTOCOL.md, `ended`. */
export type Detail = (typeof details)[number]
const details = [
  'description',
  'relay_full',
  'relay_refused',
  'relay_unreachable',
  'no_answer',
  'no_path',
] as const

const acts = ['accepted', 'declined'] as const
const directions = ['in', 'out'] as const

/** What becomes of a ring while I am in a call: it rings softly, or the caller is told. */
export type WhenBusy = (typeof busyChoices)[number]
/** Both. */
export const busyChoices = ['waiting', 'busy'] as const

/** Opens a connection; the only message before the server's welcome. */
export interface Hello {
  readonly type: 'hello'
  readonly version: 1
  readonly name?: string
  readonly token?: string
  readonly presence: boolean
  /** What is known of presence: only what changed since is told. */
  readonly presenceAt?: string
  readonly resume?: string
  readonly received?: number
  /** Of the session there is nothing left but `resume`: the page was loaded anew. */
  readonly reload?: true
  readonly whenBusy?: WhenBusy
  readonly doNotDisturb?: boolean
  /** Hides addresses in the calls of this session, both parties'. */
  readonly alwaysRelay?: true
  readonly device?: string
  readonly visible?: boolean
}

/** Whether the person sees this page: its device is not pushed to while they do. */
export interface Show {
  readonly type: 'show'
  /** The SHA-256 of the endpoint of the browser's push subscription. */
  readonly device?: string
  readonly visible: boolean
}

/** Answers a ping; `ack` is the last number received. */
export interface Pong {
  readonly type: 'pong'
  readonly ack: number
}

/** An SDP offer or answer. */
export interface Description {
  readonly type: 'offer' | 'answer'
  readonly sdp: string
}

/** A description on its way to the other party; its type is that of the message. */
export interface DescriptionMessage {
  readonly type: 'offer' | 'answer'
  readonly call: string
  /** Which peer connection of the call it belongs to, from 0 (absent). */
  readonly epoch?: number | undefined
  readonly description: Description
}

/** ICE candidates on their way to the other party. */
export interface CandidateMessage {
  readonly type: 'candidate'
  readonly call: string
  readonly epoch?: number | undefined
  readonly candidates: readonly RTCIceCandidateInit[]
}

/** How one party's side of the media stands, on its way to the other. */
export interface MediaMessage {
  readonly type: 'media'
  readonly call: string
  readonly connection: MediaConnection
  readonly audio: boolean
  readonly video: boolean
  /** The party's browser asks them to allow these devices. */
  readonly asking?: Asking | undefined
  /** Why there is no connection, as far as the party can tell. */
  readonly detail?: Detail | undefined
}

/** The devices that a browser asks its person to allow. */
export type Asking = (typeof askings)[number]
const askings = ['audio', 'video', 'both'] as const

/** A party ends the call. */
export interface HangupMessage {
  readonly type: 'hangup'
  readonly call: string
  /** How long ago that was, where the server could not be told then. */
  readonly agoMs?: number
  /** The client gives up, for this reason. */
  readonly detail?: Detail
}

/** What a client sends within a session: these are numbered. */
export type ClientMessage =
  | {
      readonly type: 'ring'
      readonly ref: string
      readonly to: string
      readonly video: boolean
      readonly early?: true
    }
  | { readonly type: 'ringing'; readonly call: string; readonly early?: true }
  | { readonly type: 'accept'; readonly call: string; readonly relayOnly?: true }
  | { readonly type: 'decline'; readonly call: string }
  | HangupMessage
  | {
      readonly type: 'rejoin'
      readonly ticket: string
      readonly call: string
      readonly relayOnly?: true
    }
  | { readonly type: 'prefer'; readonly whenBusy: WhenBusy; readonly doNotDisturb: boolean }
  | DescriptionMessage
  | CandidateMessage
  | MediaMessage

/** The numbers by which both sides act, in milliseconds; PROTOCOL.md says what each is for. */
export interface Timings {
  readonly ringMs: number
  readonly unreachableMs: number
  readonly callerGraceMs: number
  readonly connectMs: number
  readonly stalledMs: number
  readonly partyGraceMs: number
  readonly reloadMs: number
  readonly restartAfterMs: number
  /** The waits before each try; the last one again and again. */
  readonly restartTriesMs: readonly number[]
  readonly mediaLostMs: number
  readonly resumeMs: number
  readonly pingMs: number
}

/** The server's answer to hello. */
export interface Welcome {
  readonly type: 'welcome'
  readonly resume: string
  readonly resumed: boolean
  readonly received: number
  readonly user: User
  readonly token: string | undefined
  readonly iceServers: readonly RTCIceServer[]
  readonly timings: Timings
  /** Who is here; with `partial` only who changed. */
  readonly users: readonly User[]
  readonly partial: boolean
  readonly presenceAt: string | undefined
}

/** Who came, left, is busy or has another name. */
export interface PresenceMessage {
  readonly type: 'presence'
  /** What is known of presence with this message, for the next hello. */
  readonly at: string
  /** `users` are all who are here. */
  readonly all: boolean
  readonly users: readonly User[]
}

/** Someone rings. */
export interface RingMessage {
  readonly type: 'ring'
  readonly call: string
  readonly from: { readonly id: string; readonly name: string }
  readonly video: boolean
  readonly ringMs: number
  readonly iceServers: readonly RTCIceServer[]
  /** I am in another call, which accepting this one ends. */
  readonly waiting: boolean
  /** The two may connect before anyone has accepted. */
  readonly early: boolean
  /** I have never rung the caller, nor accepted a call of theirs. */
  readonly stranger: boolean
}

/** Our ring is a call now, and the callee is looked for. */
export interface CallingMessage {
  readonly type: 'calling'
  readonly ref: string | undefined
  readonly call: string
  readonly to: User
  readonly ringMs: number
  readonly iceServers: readonly RTCIceServer[]
}

/** The callee has taken the call. */
export interface AcceptMessage {
  readonly type: 'accept'
  readonly call: string
  /** Proves the call to a server that has forgotten it. A secret. */
  readonly ticket: string | undefined
  /** The connection made while it rang is with the device that accepted. */
  readonly early: boolean
}

/** Whom we ring was ringing us: we are the accepted callee of that call. */
export interface MergedMessage {
  readonly type: 'merged'
  readonly ref: string | undefined
  readonly call: string
  readonly ticket: string
}

/** A call that this session is in again. */
export interface RejoinMessage {
  readonly type: 'rejoin'
  readonly call: string
  readonly ticket: string | undefined
  readonly peer: { readonly id: string; readonly name: string }
  readonly direction: (typeof directions)[number]
  readonly video: boolean
  /** It was accepted, `elapsedMs` ago; else it rings for `ringMs` more. */
  readonly active: boolean
  readonly elapsedMs: number
  readonly ringMs: number
  /** The highest so far. */
  readonly epoch: number
  readonly iceServers: readonly RTCIceServer[]
}

/** A message of ours failed; `ref` and `call` are those of that message, where it had them. */
export interface ErrorMessage {
  readonly type: 'error'
  readonly ref: string | undefined
  readonly call: string | undefined
  readonly code: string
  readonly message: string
}

/** What the server says of one call, once it has a name. */
export type CallMessage =
  | CallingMessage
  | { readonly type: 'ringing'; readonly call: string }
  | {
      readonly type: 'refresh'
      readonly call: string
      readonly iceServers: readonly RTCIceServer[]
    }
  | AcceptMessage
  | { readonly type: 'elsewhere'; readonly call: string; readonly act: (typeof acts)[number] }
  | DescriptionMessage
  | CandidateMessage
  | MediaMessage
  | {
      readonly type: 'ended'
      readonly call: string
      readonly reason: EndReason
      readonly by: string | undefined
      readonly detail: Detail | undefined
      /** The call that goes on instead, if this one was migrated. */
      readonly next: string | undefined
      readonly durationMs: number
    }

/** What the server sends; `seq` is its number in the session, where it has one. */
export type ServerMessage = { readonly seq: number | undefined } & (
  | Welcome
  | { readonly type: 'ping'; readonly ack: number }
  | { readonly type: 'restarting'; readonly minMs: number; readonly maxMs: number }
  | PresenceMessage
  | RingMessage
  | MergedMessage
  | RejoinMessage
  | CallMessage
  | ErrorMessage
)

/** What a device without an open page is told of a call, by Web Push. */
export interface PushMessage {
  readonly type: 'push'
  readonly call: string
  readonly state: PushState
  readonly from: { readonly id: string; readonly name: string }
  readonly video: boolean
  /** How long it went on ringing when this was sent; 0 unless it rings. */
  readonly ringMs: number
  /** Proves to the server that this device was told. A secret; there while it rings. */
  readonly key: string | undefined
  /** I am in another call. */
  readonly waiting: boolean
}

/** Where a call stands for a device that is told by Web Push. */
export type PushState = (typeof pushStates)[number]
/** All of them. */
export const pushStates = ['ringing', 'elsewhere', 'missed', 'ended'] as const

/** One message as a frame; those of a session carry their number. */
export function encode(message: Hello | Pong | Show): string
export function encode(message: ClientMessage, seq: number): string
export function encode(message: Hello | Pong | Show | ClientMessage, seq?: number): string {
  return JSON.stringify(seq === undefined ? message : { seq, ...message })
}

/** A hang-up that could not be said when it was done, `at` by performance.now(). */
export function late(hangup: HangupMessage, at: number): HangupMessage {
  return { ...hangup, agoMs: Math.round(performance.now() - at) }
}

/** The message in a frame, or undefined when it is none that this version knows. */
export function decode(data: unknown): ServerMessage | undefined {
  return read(data, message)
}

/** The message in what was pushed, or undefined when it is none that this version knows. */
export function decodePush(data: unknown): PushMessage | undefined {
  return read(data, push)
}

function read<T>(data: unknown, message: (m: Fields<Field>) => T | undefined): T | undefined {
  try {
    return message(fields<Field>(JSON.parse(text(data))))
  } catch (error) {
    // JSON.parse throws SyntaxError, the readers Malformed.
    if (error instanceof Malformed || error instanceof SyntaxError) return undefined
    throw error
  }
}

/** The fields that any message has. */
type Field =
  | 'seq'
  | 'type'
  | 'resume'
  | 'resumed'
  | 'received'
  | 'user'
  | 'token'
  | 'iceServers'
  | 'timings'
  | 'users'
  | 'partial'
  | 'presenceAt'
  | 'at'
  | 'all'
  | 'ack'
  | 'minMs'
  | 'maxMs'
  | 'call'
  | 'from'
  | 'video'
  | 'ringMs'
  | 'waiting'
  | 'early'
  | 'stranger'
  | 'ticket'
  | 'peer'
  | 'direction'
  | 'active'
  | 'elapsedMs'
  | 'epoch'
  | 'next'
  | 'ref'
  | 'to'
  | 'act'
  | 'description'
  | 'candidates'
  | 'connection'
  | 'audio'
  | 'asking'
  | 'reason'
  | 'by'
  | 'detail'
  | 'durationMs'
  | 'state'
  | 'key'
  | 'code'
  | 'message'
  | 'id'
  | 'name'
  | 'presence'
  | 'username'
  | 'credential'
  | 'urls'
  | 'sdp'
  | 'candidate'
  | 'sdpMid'
  | 'sdpMLineIndex'
  | 'usernameFragment'

function message(m: Fields<Field>): ServerMessage | undefined {
  const seq = optional(m.seq, count)
  switch (m.type) {
    case 'welcome':
      return {
        type: 'welcome',
        seq,
        resume: text(m.resume),
        resumed: optional(m.resumed, flag) ?? false,
        received: optional(m.received, count) ?? 0,
        user: user(m.user),
        token: optional(m.token, text),
        iceServers: list(m.iceServers, iceServer),
        timings: timings(m.timings),
        users: list(m.users, user),
        partial: optional(m.partial, flag) ?? false,
        presenceAt: optional(m.presenceAt, text),
      }
    case 'ping':
      return { type: 'ping', seq, ack: optional(m.ack, count) ?? 0 }
    case 'restarting':
      return { type: 'restarting', seq, minMs: count(m.minMs), maxMs: count(m.maxMs) }
    case 'presence':
      return {
        type: 'presence',
        seq,
        at: text(m.at),
        all: optional(m.all, flag) ?? false,
        users: list(m.users, user),
      }
    case 'ring':
      return {
        type: 'ring',
        seq,
        call: text(m.call),
        from: person(m.from),
        video: flag(m.video),
        ringMs: optional(m.ringMs, count) ?? 0,
        iceServers: list(m.iceServers, iceServer),
        waiting: optional(m.waiting, flag) ?? false,
        early: optional(m.early, flag) ?? false,
        stranger: optional(m.stranger, flag) ?? false,
      }
    case 'merged':
      return {
        type: 'merged',
        seq,
        ref: optional(m.ref, text),
        call: text(m.call),
        ticket: text(m.ticket),
      }
    case 'rejoin':
      return {
        type: 'rejoin',
        seq,
        call: text(m.call),
        ticket: optional(m.ticket, text),
        peer: person(m.peer),
        direction: oneOf(m.direction, directions),
        video: optional(m.video, flag) ?? false,
        active: optional(m.active, flag) ?? false,
        elapsedMs: optional(m.elapsedMs, count) ?? 0,
        ringMs: optional(m.ringMs, count) ?? 0,
        epoch: optional(m.epoch, count) ?? 0,
        iceServers: list(m.iceServers, iceServer),
      }
    case 'calling':
      return {
        type: 'calling',
        seq,
        ref: optional(m.ref, text),
        call: text(m.call),
        to: user(m.to),
        ringMs: count(m.ringMs),
        iceServers: list(m.iceServers, iceServer),
      }
    case 'ringing':
      return { type: 'ringing', seq, call: text(m.call) }
    case 'refresh':
      return {
        type: 'refresh',
        seq,
        call: text(m.call),
        iceServers: list(m.iceServers, iceServer),
      }
    case 'accept':
      return {
        type: 'accept',
        seq,
        call: text(m.call),
        ticket: optional(m.ticket, text),
        early: optional(m.early, flag) ?? false,
      }
    case 'elsewhere':
      return { type: 'elsewhere', seq, call: text(m.call), act: oneOf(m.act, acts) }
    case 'offer':
      return {
        type: 'offer',
        seq,
        call: text(m.call),
        epoch: optional(m.epoch, count),
        description: description(m.description, 'offer'),
      }
    case 'answer':
      return {
        type: 'answer',
        seq,
        call: text(m.call),
        epoch: optional(m.epoch, count),
        description: description(m.description, 'answer'),
      }
    case 'candidate':
      return {
        type: 'candidate',
        seq,
        call: text(m.call),
        epoch: optional(m.epoch, count),
        candidates: list(m.candidates, candidate),
      }
    case 'media':
      return {
        type: 'media',
        seq,
        call: text(m.call),
        connection: oneOf(m.connection, mediaConnections),
        audio: flag(m.audio),
        video: flag(m.video),
        asking: optional(m.asking, (value) => oneOf(value, askings)),
        detail: detail(m.detail),
      }
    case 'ended':
      return {
        type: 'ended',
        seq,
        call: text(m.call),
        reason: endReason(m.reason),
        by: optional(m.by, text),
        detail: detail(m.detail),
        next: optional(m.next, text),
        durationMs: count(m.durationMs),
      }
    case 'error':
      return {
        type: 'error',
        seq,
        ref: optional(m.ref, text),
        call: optional(m.call, text),
        code: text(m.code),
        message: text(m.message),
      }
    default:
      return undefined
  }
}

function push(m: Fields<Field>): PushMessage | undefined {
  if (m.type !== 'push') return undefined
  return {
    type: 'push',
    call: text(m.call),
    state: oneOf(m.state, pushStates),
    from: person(m.from),
    video: flag(m.video),
    ringMs: optional(m.ringMs, count) ?? 0,
    key: optional(m.key, text),
    waiting: optional(m.waiting, flag) ?? false,
  }
}

/** The id and name in a value that should have both; throws {@link Malformed}. */
export function person(value: unknown): { id: string; name: string } {
  const m = fields<Field>(value)
  return { id: text(m.id), name: text(m.name) }
}

/** A reason; one of a later version is `lost`, since the call is over in any case. */
export function endReason(value: unknown): EndReason {
  const word = text(value)
  return endReasons.find((each) => each === word) ?? 'lost'
}

function timings(value: unknown): Timings {
  const m = fields<keyof Timings>(value)
  return {
    ringMs: count(m.ringMs),
    unreachableMs: count(m.unreachableMs),
    callerGraceMs: count(m.callerGraceMs),
    connectMs: count(m.connectMs),
    stalledMs: count(m.stalledMs),
    partyGraceMs: count(m.partyGraceMs),
    reloadMs: count(m.reloadMs),
    restartAfterMs: count(m.restartAfterMs),
    restartTriesMs: list(m.restartTriesMs, count),
    mediaLostMs: count(m.mediaLostMs),
    resumeMs: count(m.resumeMs),
    pingMs: count(m.pingMs),
  }
}

/** One that this version does not know is none. */
function detail(value: unknown): Detail | undefined {
  return details.find((known) => known === value)
}

function user(value: unknown): User {
  return { ...person(value), presence: oneOf(fields<Field>(value).presence, presences) }
}

function iceServer(value: unknown): RTCIceServer {
  const m = fields<Field>(value)
  const username = optional(m.username, text)
  const credential = optional(m.credential, text)
  return {
    urls: [...list(m.urls, text)],
    ...(username === undefined ? {} : { username }),
    ...(credential === undefined ? {} : { credential }),
  }
}

function description(value: unknown, type: Description['type']): Description {
  const m = fields<Field>(value)
  return { type: oneOf(m.type, [type]), sdp: text(m.sdp) }
}

function candidate(value: unknown): RTCIceCandidateInit {
  const m = fields<Field>(value)
  return {
    candidate: text(m.candidate),
    sdpMid: optional(m.sdpMid, text) ?? null,
    sdpMLineIndex: optional(m.sdpMLineIndex, count) ?? null,
    usernameFragment: optional(m.usernameFragment, text) ?? null,
  }
}
