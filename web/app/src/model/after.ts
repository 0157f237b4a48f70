import type { EndDetail } from 'visavis'
import type { Person } from './person.ts'

/** How long the card stays when nobody looks at it. */
export const goesAfterMs = 8000

interface Ended {
  readonly peer: Person
  readonly direction: 'in' | 'out'
  readonly video: boolean
  readonly end: EndDetail
}

/** What is told of a call that has ended. It goes by itself, but not from under a hand. */
export class After implements Ended {
  readonly peer: Person
  readonly direction: Ended['direction']
  readonly video: boolean
  readonly end: EndDetail
  readonly #gone: () => void
  readonly #held = new Set<string>()
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(ended: Ended, gone: () => void) {
    this.peer = ended.peer
    this.direction = ended.direction
    this.video = ended.video
    this.end = ended.end
    this.#gone = gone
    this.#wait()
  }

  /** While hovered or focused the card stays. */
  hold(by: 'focus' | 'pointer', held: boolean): void {
    if (held) this.#held.add(by)
    else this.#held.delete(by)
    this.#wait()
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#gone()
  }

  #wait(): void {
    clearTimeout(this.#timer)
    if (this.#held.size === 0) this.#timer = setTimeout(() => this.close(), goesAfterMs)
  }
}
