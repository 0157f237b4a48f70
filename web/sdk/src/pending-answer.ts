import type { Answered } from './push.ts'

// Right after the welcome the server tells a session which calls ring for its user.
const ringWithinMs = 5000

/** A call that the person has answered on its notification, before this page has heard of it. */
export class PendingAnswer {
  readonly #tooLate: (call: Answered) => void
  #call: Answered | undefined
  #timer: ReturnType<typeof setTimeout> | undefined

  /** `tooLate` is called if the server was reached and the call does not ring here. */
  constructor(tooLate: (call: Answered) => void) {
    this.#tooLate = tooLate
  }

  /** The person has answered that call, and no other. */
  expect(call: Answered): void {
    this.#clear()
    this.#call = call
  }

  /** The server was reached. If the call still rings, the server says so now. */
  serverReached(): void {
    if (this.#call) this.#timer ??= setTimeout(() => this.#expire(), ringWithinMs)
  }

  /** A call rings here. Returns whether it is the pending one, which is pending no more. */
  claim(call: string): boolean {
    if (this.#call?.answer !== call) return false
    this.#clear()
    return true
  }

  #expire(): void {
    const call = this.#call
    this.#clear()
    if (call) this.#tooLate(call)
  }

  #clear(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#call = undefined
  }
}
