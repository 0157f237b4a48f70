/** What a {@link Pulse} asks and tells its call. */
export interface PulseOwner {
  /** How long nothing may come before that counts as a standstill. */
  stalledMs(): number
  /** What has come so far, in bytes, and how much of their sound was played, in milliseconds. */
  flow(): Promise<{ readonly received: number; readonly playedMs: number }>
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
// A timer that comes so much too late was held up by a page with much to do, or by a machine that slept.
const sleptMs = 5000

/** Feels four times a second whether media comes in. */
export class Pulse {
  readonly #owner: PulseOwner
  readonly #timer: ReturnType<typeof setInterval>
  #received = 0
  #cameAt = performance.now()
  #receivedAt = Number.NEGATIVE_INFINITY
  #beatAt = Date.now()
  #playedMs = 0
  /** How late the last beat was, until it is known why. */
  #lateMs = 0
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
    if (document.visibilityState === 'visible') void this.#beat()
  }

  async #beat(): Promise<void> {
    // performance.now() stands still while some machines sleep.
    const late = Date.now() - this.#beatAt
    this.#beatAt = Date.now()
    if (late > sleptMs) this.#lateMs = late
    this.#owner.beat()
    if (this.#asking) return
    this.#asking = true
    const before = { received: this.#received, playedMs: this.#playedMs }
    const { received, playedMs } = await this.#owner.flow().catch(() => before)
    this.#asking = false
    // The browser plays on while a page is held up; a machine that sleeps plays nothing.
    const slept = this.#lateMs > 0 && playedMs - this.#playedMs < this.#lateMs / 2
    this.#lateMs = 0
    this.#playedMs = playedMs
    if (slept) this.#owner.woke()
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
