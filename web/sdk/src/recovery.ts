import type { Timings } from './wire.ts'

/**
 * How badly the media stands: it flows; the browser misses the other party, perhaps for a moment; nothing has come for so
 * long that it is told; it will not come back by itself.
 */
export type Trouble = 'none' | 'disconnected' | 'stalled' | 'failed'

/** What a {@link Recovery} asks and tells its call. */
export interface RecoveryOwner {
  timings(): Timings
  /** How much longer than the other party we wait, so that one restart is enough. */
  lateMs(): number
  /** Whether an offer would reach the other party now. */
  reachable(): boolean
  /** Whether media comes at this moment. */
  receiving(): boolean
  /** How much longer the path that is being looked for already may be waited for. */
  settlingMs(): number
  /** Restart ICE; `tries` came before this one since media flowed. It is `certain` that the path there was is no more. */
  restart(tries: number, certain: boolean): void
}

// Several things say that the network has changed when it does: one restart answers them all, unless it came too early to.
// Chromium is the worse for a second one in the middle of the first: the two sides may settle on different pairs.
const togetherMs = 1000

/**
 * Decides when to restart ICE: at once when the network has changed, when no media arrives and when the connection has
 * failed; after `restartAfterMs` when it is disconnected. It tries again at `restartTriesMs` until media flows.
 */
export class Recovery {
  readonly #owner: RecoveryOwner
  #trouble: Trouble = 'none'
  #tries = 0
  /** Trying, or about to: until media flows. */
  #timer: ReturnType<typeof setTimeout> | undefined
  #at = Number.POSITIVE_INFINITY
  #restartedAt = Number.NEGATIVE_INFINITY
  /** The network is another one since the last restart, or was said to be just after it. */
  #changed = false
  #echoed = false
  /** A restart was due while the other party could not be reached. */
  #due = false

  constructor(owner: RecoveryOwner) {
    this.#owner = owner
  }

  /** How the media stands now. */
  becomes(trouble: Trouble): void {
    const worse = this.#trouble === 'disconnected' && trouble !== 'disconnected'
    const begins = this.#trouble === 'none'
    this.#trouble = trouble
    if (trouble === 'none') {
      if (!begins) this.close()
      return
    }
    if (this.#tries > 0 || !(begins || worse)) return
    const wait = trouble === 'disconnected' ? this.#owner.timings().restartAfterMs : 0
    const at = performance.now() + wait + this.#wait() + this.#owner.lateMs()
    this.#schedule(Math.min(this.#at, at))
  }

  /** The network is another one, or there again: whatever was tried before says nothing any more. */
  startOver(): void {
    this.#tries = 0
    const now = performance.now()
    const together = this.#restartedAt + togetherMs
    this.#changed = true
    this.#echoed = now < together
    this.#schedule(Math.max(now, together))
  }

  /** The other party can be reached: what could not be done meanwhile is due; all is, if it was for certain that they could not. */
  reachableAgain(certain: boolean): void {
    if (certain && this.#trouble !== 'none') this.startOver()
    else if (this.#due) this.#schedule(performance.now())
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#at = Number.POSITIVE_INFINITY
    this.#tries = 0
    this.#due = this.#changed = this.#echoed = false
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
    const done = this.#echoed && this.#owner.receiving()
    this.#changed = this.#echoed = false
    if (done) return
    const settlingMs = certain ? 0 : this.#owner.settlingMs()
    if (settlingMs > 0) {
      this.#schedule(performance.now() + settlingMs)
      return
    }
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
