import type { Timings } from './wire.ts'

/** How badly the media stands: it flows; it stands still, perhaps for a moment; it will not come back by itself. */
export type Trouble = 'none' | 'standstill' | 'failed'

/** What a {@link Recovery} asks and tells its call. */
export interface RecoveryOwner {
  timings(): Timings
  /** How much longer than the other party we wait, so that one restart is enough. */
  lateMs(): number
  /** Whether an offer would reach the other party now. */
  reachable(): boolean
  /**
   * Restart ICE; `tries` came before this one since media flowed. It is `certain` that the path there was
   * is no more; else one that is being looked for already may be waited for.
   */
  restart(tries: number, certain: boolean): void
}

// Several things say that the network has changed when it does: one restart answers them all.
const togetherMs = 1000

/**
 * When to restart ICE: at once when the network is another one, and when the connection failed; after a
 * while when it stands still; and again, until media flows (semantics.md §3).
 */
export class Recovery {
  readonly #owner: RecoveryOwner
  #trouble: Trouble = 'none'
  #tries = 0
  /** Trying, or about to: until media flows. */
  #timer: ReturnType<typeof setTimeout> | undefined
  #at = Number.POSITIVE_INFINITY
  #restartedAt = Number.NEGATIVE_INFINITY
  /** The network is another one since the last restart. */
  #changed = false
  /** A restart was due while the other party could not be reached. */
  #due = false

  constructor(owner: RecoveryOwner) {
    this.#owner = owner
  }

  /** How the media stands now, and since when by performance.now(). */
  becomes(trouble: Trouble, since = performance.now()): void {
    const worse = this.#trouble === 'standstill' && trouble === 'failed'
    const begins = this.#trouble === 'none'
    this.#trouble = trouble
    if (trouble === 'none') {
      this.close()
      return
    }
    if (this.#tries > 0 || !(begins || worse)) return
    const wait = trouble === 'failed' ? 0 : this.#owner.timings().restartAfterMs
    this.#schedule(Math.min(this.#at, since + wait + this.#wait() + this.#owner.lateMs()))
  }

  /** The network is another one, or there again: whatever was tried before says nothing any more. */
  startOver(): void {
    this.#tries = 0
    this.#changed = true
    this.#schedule(Math.max(performance.now(), this.#restartedAt + togetherMs))
  }

  /** The other party can be reached again: what could not be done meanwhile is due. */
  reachableAgain(): void {
    if (this.#due || this.#trouble !== 'none') this.startOver()
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#at = Number.POSITIVE_INFINITY
    this.#tries = 0
    this.#due = false
    this.#changed = false
  }

  #schedule(at: number): void {
    clearTimeout(this.#timer)
    this.#at = at
    this.#timer = setTimeout(() => this.#restart(), Math.max(0, at - performance.now()))
  }

  #restart(): void {
    this.#at = Number.POSITIVE_INFINITY
    this.#due = !this.#owner.reachable()
    if (this.#due) return
    const tries = this.#tries
    const certain = this.#changed
    this.#changed = false
    this.#restartedAt = performance.now()
    if (this.#trouble !== 'none') {
      this.#tries++
      this.#schedule(performance.now() + this.#wait())
    }
    this.#owner.restart(tries, certain)
  }

  /** The wait before the next try, give or take a fifth. */
  #wait(): number {
    const waits = this.#owner.timings().restartTriesMs
    const wait = waits[Math.min(this.#tries, waits.length - 1)] ?? 0
    return wait * (0.8 + 0.4 * Math.random())
  }
}
