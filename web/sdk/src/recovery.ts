import type { Timings } from './wire.ts'

/**
 * How badly the media stands: it flows; the browser misses the other party, perhaps for a moment; nothing has come for so
 * long that it is told; it will not come back by itself.
 */
export type Trouble = 'none' | 'disconnected' | 'stalled' | 'failed'

/** What a {@link Recovery} asks and tells its call. */
export interface RecoveryOwner {
  timings(): Timings
  /** How much later than the other party we restart, so that one restart is enough. */
  yieldMs(): number
  /** Whether an offer would reach the other party now. */
  reachable(): boolean
  /** Whether media is received at this moment. */
  receiving(): boolean
  /** How much longer the search for a path that is under way may take. */
  settlingMs(): number
  /**
   * Restart ICE. `attempts` restarts came before this one since media last flowed. `pathGone`: the network changed, so the
   * old path does not exist any more.
   */
  restart(attempts: number, pathGone: boolean): void
}

// Several things say that the network has changed when it does: one restart answers them all, unless it came too early to.
// Chromium is the worse for a second one in the middle of the first: the two sides may settle on different pairs.
const coalesceMs = 1000

/**
 * Decides when to restart ICE: at once when the network has changed, when no media arrives and when the connection has
 * failed; after `restartAfterMs` when it is disconnected. It tries again at `restartTriesMs` until media flows.
 */
export class Recovery {
  readonly #owner: RecoveryOwner
  #trouble: Trouble = 'none'
  #attempts = 0
  /** Set while a restart is planned. */
  #timer: ReturnType<typeof setTimeout> | undefined
  #at = Number.POSITIVE_INFINITY
  #restartedAt = Number.NEGATIVE_INFINITY
  /** The network changed since the last restart. */
  #changed = false
  /** The change was reported within {@link coalesceMs} of that restart, which may have answered it already. */
  #changedAfterRestart = false
  /** A restart was due while the other party could not be reached. */
  #due = false

  constructor(owner: RecoveryOwner) {
    this.#owner = owner
  }

  /** How the media stands now. */
  update(trouble: Trouble): void {
    const worse = this.#trouble === 'disconnected' && trouble !== 'disconnected'
    const begins = this.#trouble === 'none'
    this.#trouble = trouble
    if (trouble === 'none') {
      if (!begins) this.close()
      return
    }
    if (this.#attempts > 0 || !(begins || worse)) return
    const wait = trouble === 'disconnected' ? this.#owner.timings().restartAfterMs : 0
    const at = performance.now() + wait + this.#wait() + this.#owner.yieldMs()
    this.#schedule(Math.min(this.#at, at))
  }

  /** The network is another one, or there again: whatever was tried before says nothing any more. */
  startOver(): void {
    this.#attempts = 0
    const now = performance.now()
    const together = this.#restartedAt + coalesceMs
    this.#changed = true
    this.#changedAfterRestart = now < together
    this.#schedule(Math.max(now, together))
  }

  /**
   * The other party can be reached again. A restart that was due meanwhile is made now. If messages did not reach them for
   * certain, and media does not flow, recovery starts over.
   */
  reachableAgain(certain: boolean): void {
    if (certain && this.#trouble !== 'none') this.startOver()
    else if (this.#due) this.#schedule(performance.now())
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#at = Number.POSITIVE_INFINITY
    this.#attempts = 0
    this.#due = this.#changed = this.#changedAfterRestart = false
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
    const attempts = this.#attempts
    const pathGone = this.#changed
    const done = this.#changedAfterRestart && this.#owner.receiving()
    this.#changed = this.#changedAfterRestart = false
    if (done) return
    const settlingMs = pathGone ? 0 : this.#owner.settlingMs()
    if (settlingMs > 0) {
      this.#schedule(performance.now() + settlingMs)
      return
    }
    this.#restartedAt = performance.now()
    if (this.#trouble !== 'none') {
      this.#attempts++
      this.#schedule(performance.now() + this.#wait())
    }
    this.#owner.restart(attempts, pathGone)
  }

  /** The wait before the next try, give or take a fifth. */
  #wait(): number {
    const waits = this.#owner.timings().restartTriesMs
    const wait = waits[Math.min(this.#attempts, waits.length - 1)] ?? 0
    return wait * (0.8 + 0.4 * Math.random())
  }
}
