import { signal } from '@preact/signals'
import { Bar } from './bar.ts'

export type Side = 'left' | 'right' | 'top' | 'bottom'
export type Corner = 'top-left' | 'top-right' | 'bottom-left' | 'bottom-right'

/** What there is to see in a call. */
export interface Sight {
  readonly connected: boolean
  /** My picture; theirs. */
  readonly mine: boolean
  readonly theirs: boolean
  /** A sentence speaks of the bar's buttons. */
  readonly explained: boolean
}

/** How the pictures of a call and its bar lie on the page. */
export class Layout {
  readonly bar = new Bar()
  /** My picture is the large one. */
  readonly swapped = signal(false)
  /** Where the small picture is. */
  readonly corner = signal<Corner>('bottom-right')
  #sight: Sight = { connected: false, mine: false, theirs: false, explained: false }

  /** Takes over what there is to see now. */
  follow(sight: Sight): void {
    this.#sight = sight
    if (!sight.mine) this.swapped.value = false
    this.#letBarHide()
  }

  swap(): void {
    this.swapped.value = !this.swapped.value
    this.#letBarHide()
  }

  /** Moves the small picture by keyboard, to the neighbouring corner in that direction. */
  nudge(side: Side): void {
    const corner = this.corner.value
    const top = corner.startsWith('top')
    const left = corner.endsWith('left')
    const vertical = side === 'top' || (side !== 'bottom' && top) ? 'top' : 'bottom'
    const horizontal = side === 'left' || (side !== 'right' && left) ? 'left' : 'right'
    this.corner.value = `${vertical}-${horizontal}`
  }

  stop(): void {
    this.bar.stop()
  }

  // Only from before a picture.
  #letBarHide(): void {
    const { connected, theirs, explained } = this.#sight
    this.bar.mayHide(connected && (theirs || this.swapped.value) && !explained)
  }
}
