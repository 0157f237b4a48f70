/** What a {@link Pulse} asks and tells its call. */
export interface PulseOwner {
  /** How long nothing may come before that counts as a standstill. */
  stalledMs(): number
  /** What has come so far. */
  received(): Promise<number>
  /** Whether the other party sends anything; silence of one who does not is no standstill. */
  expected(): boolean
  /** Whether it stands still has changed. */
  changed(): void
  /** A quarter of a second has passed. */
  beat(): void
  /** The machine has slept. */
  woke(): void
}

const beatMs = 250
// A timer that comes so much too late has not been late by itself.
const sleptMs = 5000

/** Feels four times a second whether media comes in. */
export class Pulse {
  readonly #owner: PulseOwner
  readonly #timer: ReturnType<typeof setInterval>
  #received = 0
  #cameAt = performance.now()
  #receivedAt = Number.NEGATIVE_INFINITY
  #beatAt = Date.now()
  #asking = false
  #stalled = false

  constructor(owner: PulseOwner) {
    this.#owner = owner
    this.#timer = setInterval(() => void this.#beat(), beatMs)
    globalThis.document?.addEventListener('visibilitychange', this.#seen)
  }

  /** Nothing has come for too long. */
  get stalled(): boolean {
    return this.#stalled
  }

  /** Something has come just now. */
  get flows(): boolean {
    return performance.now() - this.#cameAt < 2 * beatMs
  }

  /** When something came last, or nothing was missed, by performance.now(). */
  get cameAt(): number {
    return this.#cameAt
  }

  /** When something came last, in truth. */
  get receivedAt(): number {
    return this.#receivedAt
  }

  /** There is a new connection, which has its time. */
  reset(): void {
    this.#received = 0
    this.#cameAt = performance.now()
    this.#stalled = false
  }

  close(): void {
    clearInterval(this.#timer)
    globalThis.document?.removeEventListener('visibilitychange', this.#seen)
  }

  readonly #seen = (): void => {
    if (document.visibilityState === 'visible') this.#feelSleep()
  }

  #feelSleep(): void {
    // performance.now() stands still while some machines sleep.
    const late = Date.now() - this.#beatAt
    this.#beatAt = Date.now()
    if (late > sleptMs) this.#owner.woke()
  }

  async #beat(): Promise<void> {
    this.#feelSleep()
    this.#owner.beat()
    if (this.#asking) return
    this.#asking = true
    const received = await this.#owner.received().catch(() => this.#received)
    this.#asking = false
    const now = performance.now()
    if (received > this.#received) this.#receivedAt = now
    if (received !== this.#received || !this.#owner.expected()) this.#cameAt = now
    this.#received = received
    const stalled = now - this.#cameAt >= this.#owner.stalledMs()
    if (stalled === this.#stalled) return
    this.#stalled = stalled
    this.#owner.changed()
  }
}
