import type { Answered } from './push.ts'

// The server tells a session of the calls that ring for its user right after the welcome.
const ringsMs = 5000

/** A call that the person has answered on its notification, before this page has heard of it. */
export class Answer {
  readonly #over: (call: Answered) => void
  #call: Answered | undefined
  #timer: ReturnType<typeof setTimeout> | undefined

  /** `over` is told of a call that does not ring here although the server was reached. */
  constructor(over: (call: Answered) => void) {
    this.#over = over
  }

  /** The person has answered that call, and no other. */
  expect(call: Answered): void {
    this.#drop()
    this.#call = call
  }

  /** The server was reached: if the call still rings, it comes now. */
  reached(): void {
    if (this.#call) this.#timer ??= setTimeout(() => this.#tell(), ringsMs)
  }

  /** A call rings here; whether it is the one, which it is once. */
  takes(call: string): boolean {
    if (this.#call?.answer !== call) return false
    this.#drop()
    return true
  }

  #tell(): void {
    const call = this.#call
    this.#drop()
    if (call) this.#over(call)
  }

  #drop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#call = undefined
  }
}
