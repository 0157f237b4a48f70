// What the app needs of the SDK: the public faces of its classes, so that a fake of a few lines can
// stand in for them in a test or in the gallery.

import type {
  CallEvents,
  CallList,
  Place,
  PushEvents,
  Call as SDKCall,
  Push as SDKPush,
  User,
  Visavis,
  VisavisEvents,
} from 'visavis'

/** Calls `listener` at each `event`, until the function that it returns is called. */
type On<Events> = <E extends keyof Events>(
  event: E,
  listener: (value: Events[E]) => void,
) => () => void

export type Call = Omit<Pick<SDKCall, keyof SDKCall>, 'on' | 'remote'> & {
  readonly on: On<CallEvents>
}

export type Push = Omit<
  Pick<SDKPush, keyof SDKPush>,
  'on' | 'online' | 'renew' | 'forget' | 'device'
> & {
  readonly on: On<PushEvents>
}

/** The SDK's events, with the calls of this module. */
type ClientEvents = Omit<VisavisEvents, 'ring' | 'call'> & {
  ring: Call
  call: Call | undefined
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
  readonly on: On<ClientEvents>
  readonly push: Push
  alwaysRelay: boolean
  relayStrangers: boolean
  readonly call: Call | undefined
  place(): Promise<Place>
  connect(as?: { name?: string }): Promise<User>
  rename(name: string): Promise<User>
  ring(user: string, options?: { video?: boolean }): Call
  calls(options?: { before?: string; limit?: number }): Promise<CallList>
}
