/** What a call and the client that it belongs to say to each other. */

import type { VisavisError } from './error.ts'
import type { LeftCall } from './memory.ts'
import type { NetworkChange } from './network.ts'
import type { Transport } from './transport.ts'
import type {
  CallMessage,
  ClientMessage,
  Detail,
  MergedMessage,
  RejoinMessage,
  RingMessage,
  Timings,
} from './wire.ts'

/** The call itself, as far as the client must know it: one object for each call, whose id the server gives later. */
export interface CallIdentity {
  readonly id: string | undefined
}

/** What a call needs of the client that it belongs to. */
export interface CallLine {
  iceTransportPolicy(): RTCIceTransportPolicy
  /** Whether I hide my addresses from somebody who calls me for the first time. */
  relaysStrangers(): boolean
  /** Whether to connect while it rings, where the server lets us. */
  readonly early: boolean
  /** My id. */
  me(): string | undefined
  /** The servers of the welcome, for a call that brings none of its own. */
  iceServers(): readonly RTCIceServer[]
  timings(): Timings
  /** Whether what is sent reaches the server now. */
  online(): boolean
  send(message: ClientMessage): void
  /** Finds out whether the connection to the server still stands. */
  check(): void
  /** Says a call's last word, as often as that takes. */
  leave(word: LastWord): void
  /** The call is being accepted: ends another one that is on, and hands over its devices. */
  accepting(call: CallIdentity): readonly MediaStreamTrack[]
  /** What a page in this one's place has to know. */
  remember(call: LeftCall): void
  /** Over which transport media was last received on this network. */
  lastTransport(): Transport | undefined
  /** Media was received over this transport. Undefined: on the network of now, none is known to work. */
  transportWorked(transport: Transport | undefined): void
  /** The call still lives. */
  alive(): void
  ended(call: CallIdentity): void
  /** Whether a call was accepted or declined in another tab of this browser. */
  actedInTab(call: string): boolean
}

/** What a call says as it ends here. */
export interface LastWord {
  readonly type: 'decline' | 'hangup'
  readonly call: string
  /** Puts a new session into the call first, where that is needed. */
  readonly ticket: string | undefined
  /** The session of now is not in the call yet. */
  readonly away: boolean
  /** When it was said, by performance.now(). */
  readonly at: number
  /** The call failed, for this reason. */
  readonly detail: Detail | undefined
}

/** What puts a new session into a call. */
export interface Proof {
  readonly call: string
  readonly ticket: string
  readonly relayOnly: boolean
}

/** What the client tells a call. */
export interface CallInput {
  /** The ring was sent. */
  rang(): void
  /** What the server says of this call. */
  receive(message: CallMessage): void
  /** The ring has become the accepted other end of a call that they began; its servers, if it brought some. */
  merged(message: MergedMessage, iceServers: readonly RTCIceServer[] | undefined): void
  /** Whether this call goes on as the one of that id. */
  is(id: string): boolean
  /** This session is in the call again, or in the one that it goes on as. */
  rejoined(message: RejoinMessage): void
  /** The server refused the ring, or something else of this call. */
  refused(error: VisavisError): void
  /** The session is new, or there will be none: what proves a call that can go on; others end. */
  sessionLost(error: VisavisError, final: boolean): Proof | undefined
  /** The connection to the server is back, or was only doubted, and what was sent meanwhile is on its way. */
  online(lost: boolean): void
  /** The network may be another one. */
  networkChanged(change: NetworkChange): void
  /** Hangs up, without stopping the devices: another call takes them. */
  handOver(): readonly MediaStreamTrack[]
  /** The call that it rang beside is over. */
  alone(): void
  /** The call that it rings beside is in another tab of this browser. */
  otherTabInCall(): void
}

/** What is known of a call when it begins. */
export type CallBeginning =
  | {
      readonly how: 'out'
      readonly peer: { readonly id: string; readonly name: string }
      readonly video: boolean
    }
  | { readonly how: 'in'; readonly ring: RingMessage; readonly early: boolean }
  | {
      readonly how: 'rejoined'
      readonly rejoin: RejoinMessage
      readonly left: LeftCall | undefined
    }
