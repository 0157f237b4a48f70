import { count, type Fields, fields, flag, Malformed, optional, text } from './decoders.ts'
import type { KeptStorage } from './storage.ts'
import { type Transport, transports } from './transport.ts'

/** What a page saves of its call for the page that takes its place. */
export interface SavedCall {
  readonly id: string
  readonly ticket: string | undefined
  /** Out: a device of theirs rings. */
  readonly confirmed: boolean
  /** Number of the page's peer connection: the server may have forgotten it, and the other party has not. */
  readonly epoch: number
  /** I hide my addresses in this call. */
  readonly relayOnly: boolean
  /** What the person wants to send. */
  readonly audio: boolean
  readonly video: boolean
}

/** What a page saves for the page that takes its place. */
export interface SavedPage {
  readonly resume?: string | undefined
  readonly call?: SavedCall | undefined
  /** A call that was hung up, before the server has said so. */
  readonly hungUp?: string | undefined
  /** When the call was seen to live, by Date.now(). */
  readonly aliveAt?: number | undefined
  /** Over which transport media was last received, if it was not the first one, and when that was, by Date.now(). */
  readonly transport?: Transport | undefined
  readonly transportAt?: number | undefined
}

// The page before has let go of its lock by then, unless it lives on: in a tab that was loaded anew there is none that
// does, but a browser with much to do takes its time.
const claimMs = 500
const claimReloadMs = 5000
const aliveEveryMs = 5000
// A network that changed while no page was open to hear of it is found out after that.
const transportValidMs = 3_600_000

/**
 * What a reload or a crash must not lose: written whenever it changes, since a crash gives no
 * warning, to this tab's sessionStorage. A tab that was duplicated has a copy of that; a Web Lock
 * of the living page keeps it from taking the other's place.
 */
export class Memory {
  readonly #storage: KeptStorage
  readonly #key: string
  readonly #locks: LockManager | undefined
  #saved: SavedPage = {}
  #lock: string | undefined

  constructor(storage: KeptStorage, origin: string) {
    this.#storage = storage
    this.#key = `visavis.page ${origin}`
    // A page that is not secure has none, whatever the types say; it cannot have a call either.
    this.#locks = globalThis.navigator?.locks
  }

  get saved(): SavedPage {
    return this.#saved
  }

  /** What the page before saved; undefined if there is nothing, or if that page is still open in another tab. */
  claim(): Promise<SavedPage | undefined> | undefined {
    const found = this.#read()
    if (!found || !this.#locks) return undefined
    const { lock, saved } = found
    const patience = wasReloaded() ? claimReloadMs : claimMs
    return this.#hold(lock, AbortSignal.timeout(patience)).then(
      () => {
        this.#lock = lock
        this.#saved = saved
        return saved
      },
      () => undefined,
    )
  }

  /** Whether this page, loaded anew, finds what was saved. */
  get survivesReload(): boolean {
    return this.#lock !== undefined && this.#storage.lasts(this.#key)
  }

  /** Saves this, beside what was saved before. */
  save(more: SavedPage): void {
    const aliveAt = more.call ? Date.now() : this.#saved.aliveAt
    this.#saved = { ...this.#saved, aliveAt, ...more }
    this.#write()
  }

  /** The call is still on. */
  callAlive(): void {
    const now = Date.now()
    if (now - (this.#saved.aliveAt ?? 0) >= aliveEveryMs) this.save({ aliveAt: now })
  }

  /** Over which transport media was last received on this network; undefined if that is too long ago. */
  get lastTransport(): Transport | undefined {
    const { transport, transportAt = 0 } = this.#saved
    return Date.now() - transportAt < transportValidMs ? transport : undefined
  }

  /** Media was received over this transport. Undefined: the network is another one. */
  transportWorked(worked: Transport | undefined): void {
    const transport = worked === 'any' ? undefined : worked
    if (transport !== this.#saved.transport) {
      this.save({ transport, transportAt: transport && Date.now() })
    }
  }

  /** There is nothing to come back to. */
  forget(): void {
    this.#saved = {}
    this.#storage.removeItem(this.#key)
  }

  #write(): void {
    if (!this.#locks) return
    if (this.#lock === undefined) {
      this.#lock = crypto.randomUUID()
      this.#hold(this.#lock).catch(() => undefined)
    }
    const item = JSON.stringify({ lock: this.#lock, ...this.#saved })
    this.#storage.setItem(this.#key, item)
  }

  /** Holds a lock until the page goes; resolves once it is held. */
  #hold(name: string, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const held = () => {
        resolve()
        return new Promise<never>(() => undefined)
      }
      const options = signal ? { signal } : {}
      this.#locks?.request(`visavis ${name}`, options, held).catch(reject)
    })
  }

  #read(): { lock: string; saved: SavedPage } | undefined {
    try {
      const m = fields<'lock' | keyof SavedPage>(
        JSON.parse(this.#storage.getItem(this.#key) ?? 'null'),
      )
      return {
        lock: text(m.lock),
        saved: {
          resume: optional(m.resume, text),
          call: optional(m.call, savedCall),
          hungUp: optional(m.hungUp, text),
          aliveAt: optional(m.aliveAt, count),
          transport: transports.find((transport) => transport === m.transport),
          transportAt: optional(m.transportAt, count),
        },
      }
    } catch (error) {
      if (error instanceof Malformed || error instanceof SyntaxError) return undefined
      throw error
    }
  }
}

function wasReloaded(): boolean {
  const [navigation] = globalThis.performance.getEntriesByType('navigation')
  return navigation !== undefined && 'type' in navigation && navigation.type === 'reload'
}

function savedCall(value: unknown): SavedCall {
  const m: Fields<keyof SavedCall> = fields(value)
  return {
    id: text(m.id),
    ticket: optional(m.ticket, text),
    confirmed: flag(m.confirmed),
    epoch: count(m.epoch),
    relayOnly: optional(m.relayOnly, flag) ?? false,
    audio: flag(m.audio),
    video: flag(m.video),
  }
}
