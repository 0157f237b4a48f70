import { computed, signal } from '@preact/signals'
import type { PushReadiness } from 'visavis'
import type { Push } from '../client.ts'
import { asRefusal, type Refusal } from './refusal.ts'

/** Whether this device is rung while the page is closed, and the switch for that. */
export class PushModel {
  readonly state
  /** Why the last turn of the switch came to nothing. */
  readonly refusal = signal<Refusal | undefined>(undefined)
  /** How the switch stands, which answers before the browser and the server have. */
  readonly on = computed(() => this.#wanted.value ?? this.state.value === 'on')
  /** Waits for the person, the browser or the server. */
  readonly turning = computed(() => this.#wanted.value !== undefined)

  readonly #push: Push
  readonly #wanted = signal<boolean | undefined>(undefined)

  constructor(push: Push) {
    this.#push = push
    this.state = signal<PushReadiness>(push.state)
    push.on('state', (e) => {
      this.state.value = e.new
    })
  }

  /** From a click or a key: the browser may ask the person now. */
  async turn(on: boolean): Promise<void> {
    if (this.turning.value) return
    this.#wanted.value = on
    this.refusal.value = undefined
    try {
      await (on ? this.#push.turnOn() : this.#push.turnOff())
    } catch (error) {
      this.refusal.value = asRefusal(error)
    } finally {
      this.#wanted.value = undefined
    }
  }

  /** The person may have changed what the browser allows. */
  look(): void {
    this.#push.look()
  }
}
