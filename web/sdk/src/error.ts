/**
 * A failure with a word to branch on and a sentence to show: a code of PROTOCOL.md, or
 * `offline` when there is no connection to the server to ask.
 */
export class VisavisError extends Error {
  /** The listed word for what went wrong. */
  readonly code: string

  constructor(code: string, message: string) {
    super(message)
    this.name = 'VisavisError'
    this.code = code
  }
}
