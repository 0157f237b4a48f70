import { fields, Malformed, optional, text } from './decoders.ts'

/** What other tabs of this browser are told, and asked. */
export interface TabsOwner {
  /** Who I am, while I am in a call in this tab. */
  inCall(): string | undefined
  /** Somebody is in a call in another tab. */
  otherTabInCall(user: string): void
}

/** The tabs of this browser that are at the same place: what the server calls another session may be one of them. */
export class Tabs {
  readonly #owner: TabsOwner
  readonly #channel: BroadcastChannel | undefined
  readonly #acted = new Set<string>()
  #others = false

  constructor(origin: string, owner: TabsOwner) {
    this.#owner = owner
    if (globalThis.BroadcastChannel === undefined) return
    this.#channel = new BroadcastChannel(`visavis ${origin}`)
    this.#channel.onmessage = ({ data }) => this.#received(data)
    this.#channel.postMessage({ here: 'asks' })
  }

  /** Whether there is another tab, or was one. */
  get others(): boolean {
    return this.#others
  }

  /** Tells that a call that rings was accepted or declined here. */
  announce(call: string): void {
    this.#channel?.postMessage({ acted: call })
  }

  /** Whether a call was accepted or declined in another tab. */
  actedInOtherTab(call: string): boolean {
    return this.#acted.has(call)
  }

  /** Asks whether somebody is in a call in another tab. */
  askWhetherInCall(user: string): void {
    this.#channel?.postMessage({ asks: user })
  }

  close(): void {
    this.#channel?.close()
  }

  #received(data: unknown): void {
    try {
      this.#others = true
      const m = fields<'acted' | 'asks' | 'here' | 'inCall'>(data)
      if (optional(m.here, text) === 'asks') this.#channel?.postMessage({ here: 'answers' })
      const acted = optional(m.acted, text)
      const asks = optional(m.asks, text)
      const inCall = optional(m.inCall, text)
      if (acted !== undefined) this.#acted.add(acted)
      if (asks !== undefined && asks === this.#owner.inCall()) {
        this.#channel?.postMessage({ inCall: asks })
      }
      if (inCall !== undefined) this.#owner.otherTabInCall(inCall)
    } catch (error) {
      // A tab of another version.
      if (!(error instanceof Malformed)) throw error
    }
  }
}
