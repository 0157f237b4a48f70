import { signal } from '@preact/signals'

/** The bar hides after this long without a movement, a touch or a key. */
export const hideAfterMs = 3000

/** Whether the controls of a call are to be seen. They hide only where there is a picture to look at. */
export class Bar {
  readonly shown = signal(true)
  #timer: ReturnType<typeof setTimeout> | undefined
  readonly #held = new Set<string>()
  #mayHide = false

  /** There was a movement, a touch or a key. */
  touch(): void {
    this.shown.value = true
    clearTimeout(this.#timer)
    if (this.#mayHide && this.#held.size === 0) {
      this.#timer = setTimeout(() => {
        this.shown.value = false
      }, hideAfterMs)
    }
  }

  /** While the keyboard or the mouse is on it, or another call waits, the bar stays. */
  hold(by: 'focus' | 'pointer' | 'waiting', held: boolean): void {
    if (held) this.#held.add(by)
    else this.#held.delete(by)
    this.touch()
  }

  /** Says whether there is a picture, so that hiding uncovers something. */
  mayHide(may: boolean): void {
    if (may === this.#mayHide) return
    this.#mayHide = may
    this.touch()
  }

  stop(): void {
    this.#mayHide = false
    clearTimeout(this.#timer)
  }
}
