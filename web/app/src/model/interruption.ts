import { signal } from '@preact/signals'
import type { CallState } from 'visavis'

/** After so long a standstill is told. The SDK takes as long for its own; a page that is loaded anew is known at once. */
export const standstillToldMs = 1000
/** A picture that stands still for this long gets a line that counts the seconds. */
export const standstillShownMs = 5000

/** Whether a call has lost its media for the moment, and since when. */
export class Interruption {
  /** The page was loaded anew in the midst of this call, and has no media yet. */
  readonly returning = signal(false)
  /** The picture stands still, and it is time to say so. */
  readonly still = signal(false)
  /** Seconds it has stood still; 0 before they are worth showing. */
  readonly seconds = signal(0)
  #state: CallState = 'calling'
  #stalledAt = 0
  /** This page has had media. */
  #connected = false

  /** Takes over the state of the call. */
  follow(state: CallState): void {
    if (state === 'reconnecting' && this.#state !== 'reconnecting') {
      this.#stalledAt = performance.now()
    }
    this.#state = state
    this.#connected ||= state === 'connected'
    this.returning.value = state === 'reconnecting' && !this.#connected
  }

  /** Some time has passed; `reloading` says that the other party's page is loaded anew. */
  tick(reloading: boolean): void {
    const stalled = this.#state === 'reconnecting'
    const forMs = stalled ? performance.now() - this.#stalledAt : 0
    const toldMs = reloading && !this.returning.value ? standstillToldMs : 0
    this.still.value = stalled && forMs >= toldMs
    this.seconds.value = forMs < standstillShownMs ? 0 : Math.floor(forMs / 1000)
  }
}
