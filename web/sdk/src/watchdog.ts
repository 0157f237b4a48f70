/** What a {@link MediaWatchdog} asks and tells its call. */
export interface WatchdogOwner {
  /** Media has stalled after this long without a byte. */
  stalledMs(): number
  /** How many bytes have been received so far, and how many milliseconds of the other party's sound were played. */
  measure(): Promise<{ readonly received: number; readonly playedMs: number }>
  /** Whether the other party sends anything. If not, media does not stall. */
  mediaExpected(): boolean
  /** {@link MediaWatchdog.stalled} changed. */
  changed(): void
  /** A quarter of a second has passed. */
  tick(): void
  /** The machine has slept. */
  woke(): void
}

const tickMs = 250
// A timer that comes so much too late was held up by a page with much to do, or by a machine that slept.
const sleptMs = 5000

/** Checks four times a second whether media is received. */
export class MediaWatchdog {
  readonly #owner: WatchdogOwner
  readonly #timer: ReturnType<typeof setInterval>
  #received = 0
  #healthyAt = performance.now()
  #receivedAt = Number.NEGATIVE_INFINITY
  #tickedAt = Date.now()
  #playedMs = 0
  /** How late the last tick was, until it is known why. */
  #lateMs = 0
  #measuring = false
  #stalled = false

  constructor(owner: WatchdogOwner) {
    this.#owner = owner
    this.#timer = setInterval(() => void this.#tick(), tickMs)
    globalThis.document?.addEventListener('visibilitychange', this.#visibilityChanged)
  }

  /** Media is expected, and nothing was received for too long. */
  get stalled(): boolean {
    return this.#stalled
  }

  /** Something was received in the last half second, or nothing was expected. */
  get receiving(): boolean {
    return performance.now() - this.#healthyAt < 2 * tickMs
  }

  /** When something was last received or nothing was expected, by performance.now(). */
  get healthyAt(): number {
    return this.#healthyAt
  }

  /** When something was last received, by performance.now(). */
  get receivedAt(): number {
    return this.#receivedAt
  }

  /** There is a new connection: it has the full time before it stalls. */
  reset(): void {
    this.#received = 0
    this.#healthyAt = performance.now()
    this.#stalled = false
  }

  close(): void {
    clearInterval(this.#timer)
    globalThis.document?.removeEventListener('visibilitychange', this.#visibilityChanged)
  }

  readonly #visibilityChanged = (): void => {
    if (document.visibilityState === 'visible') void this.#tick()
  }

  async #tick(): Promise<void> {
    // performance.now() stands still while some machines sleep.
    const late = Date.now() - this.#tickedAt
    this.#tickedAt = Date.now()
    if (late > sleptMs) this.#lateMs = late
    this.#owner.tick()
    if (this.#measuring) return
    this.#measuring = true
    const before = { received: this.#received, playedMs: this.#playedMs }
    const { received, playedMs } = await this.#owner.measure().catch(() => before)
    this.#measuring = false
    // The browser plays on while a page is held up; a machine that sleeps plays nothing.
    const slept = this.#lateMs > 0 && playedMs - this.#playedMs < this.#lateMs / 2
    this.#lateMs = 0
    this.#playedMs = playedMs
    if (slept) this.#owner.woke()
    const now = performance.now()
    if (received > this.#received) this.#receivedAt = now
    if (received !== this.#received || !this.#owner.mediaExpected()) this.#healthyAt = now
    this.#received = received
    const stalled = now - this.#healthyAt >= this.#owner.stalledMs()
    if (stalled === this.#stalled) return
    this.#stalled = stalled
    this.#owner.changed()
  }
}
