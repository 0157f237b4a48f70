/** What a call and the client that it belongs to say to each other. */

import type { VisavisError } from './error.ts'
import type { SavedCall } from './memory.ts'
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
export interface CallOwner {
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
  /** Finds out whether the connection to the server still works. */
  check(): void
  /** The person ended the call here. The server is told, as often as that takes. */
  endedHere(end: LocalEnd): void
  /** The call is being accepted. Ends another call that is on, and returns the tracks of its devices. */
  accepting(call: CallIdentity): readonly MediaStreamTrack[]
  /** Keeps what the next page has to know after a reload. */
  remember(call: SavedCall): void
  /** Over which transport media was last received on this network. */
  lastTransport(): Transport | undefined
  /** Media was received over this transport. Undefined: on the network of now, none is known to work. */
  transportWorked(transport: Transport | undefined): void
  /** The call is still on; a few times a second. */
  callAlive(): void
  ended(call: CallIdentity): void
  /** Whether this browser has, or had, other tabs at the same place. */
  hasOtherTabs(): boolean
  /** Whether a call was accepted or declined in another tab of this browser. */
  actedInOtherTab(call: string): boolean
}

/** The end of a call that was declined or hung up here, as the server is told. */
export interface LocalEnd {
  readonly type: 'decline' | 'hangup'
  readonly call: string
  /** Proves to the server that a new session belongs to the call. */
  readonly ticket: string | undefined
  /** The session of now is not in the call yet. */
  readonly rejoining: boolean
  /** When the call ended here, by performance.now(). */
  readonly at: number
  /** The call failed, for this reason. */
  readonly detail: Detail | undefined
}

/** Proves to the server that a new session belongs to a call. */
export interface CallTicket {
  readonly call: string
  readonly ticket: string
  readonly relayOnly: boolean
}

/** What the client tells a call. */
export interface CallInput {
  /** The ring was sent. */
  ringSent(): void
  /** The server sent a message of this call. */
  receive(message: CallMessage): void
  /** The ring has become the accepted other end of a call that they began; its servers, if it brought some. */
  merged(message: MergedMessage, iceServers: readonly RTCIceServer[] | undefined): void
  /** Whether this call goes on as the one of that id. */
  continuesAs(id: string): boolean
  /** This session is in the call again, or in the one that it goes on as. */
  rejoined(message: RejoinMessage): void
  /** The server refused the ring, or something else of this call. */
  refused(error: VisavisError): void
  /** The session is new, or there will be none. Returns the ticket of a call that can go on; any other call ends. */
  sessionLost(error: VisavisError, final: boolean): CallTicket | undefined
  /** What is sent reaches the server again: after the connection was lost, or only in doubt. */
  serverReached(lost: boolean): void
  /** The network may be another one. */
  networkChanged(change: NetworkChange): void
  /** Hangs up without stopping the devices, and returns their tracks for another call. */
  handOver(): readonly MediaStreamTrack[]
  /** The call that it rang beside is over. */
  otherCallEnded(): void
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
      readonly saved: SavedCall | undefined
    }
