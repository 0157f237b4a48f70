// What the app needs of the SDK: the public faces of its classes, so that a fake of a few lines can
// stand in for them in a test or in the gallery.

import type {
  Answered,
  CallList,
  CallState,
  ConnectionState,
  EndDetail,
  Place,
  PushReadiness,
  Call as SDKCall,
  Push as SDKPush,
  User,
  Visavis,
  VisavisError,
} from 'visavis'

export type Call = Omit<Pick<SDKCall, keyof SDKCall>, 'on' | 'remote'> & {
  on(
    event: 'state',
    listener: (e: { old: CallState; new: CallState; reason: EndDetail | undefined }) => void,
  ): () => void
  on(event: 'media', listener: () => void): () => void
}

export type Push = Omit<
  Pick<SDKPush, keyof SDKPush>,
  'on' | 'online' | 'renew' | 'forget' | 'device'
> & {
  on(event: 'state', listener: (e: { old: PushReadiness; new: PushReadiness }) => void): () => void
}

export type Client = Omit<
  Pick<Visavis, keyof Visavis>,
  | 'on'
  | 'call'
  | 'ring'
  | 'alwaysRelay'
  | 'relayStrangers'
  | 'calls'
  | 'connect'
  | 'rename'
  | 'place'
  | 'push'
> & {
  readonly push: Push
  alwaysRelay: boolean
  relayStrangers: boolean
  readonly call: Call | undefined
  place(): Promise<Place>
  connect(as?: { name?: string }): Promise<User>
  rename(name: string): Promise<User>
  ring(user: string, options?: { video?: boolean }): Call
  calls(options?: { before?: string; limit?: number }): Promise<CallList>
  on(
    event: 'state',
    listener: (e: {
      old: ConnectionState
      new: ConnectionState
      error: VisavisError | undefined
    }) => void,
  ): () => void
  on(event: 'users', listener: (users: readonly User[]) => void): () => void
  on(event: 'ring', listener: (call: Call) => void): () => void
  on(event: 'call', listener: (call: Call | undefined) => void): () => void
  on(event: 'callrecorded', listener: (call: string) => void): () => void
  on(event: 'answeredtoolate', listener: (call: Answered) => void): () => void
}
