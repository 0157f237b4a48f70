import { fields, flag, Malformed, oneOf } from './decoders.ts'
import { busyChoices, type WhenBusy } from './wire.ts'

/** What becomes of a ring while I am in a call, or want to be left alone. */
export interface Prefers {
  /** While I am in a call: it rings softly (`waiting`), or the caller is told that I am `busy`. */
  readonly whenBusy: WhenBusy
  /** Nothing rings; callers are told that I am busy. */
  readonly doNotDisturb: boolean
}

/** What was kept, or undefined when it is nothing of ours. */
export function readPrefers(kept: string | null | undefined): Prefers | undefined {
  try {
    const m = fields<keyof Prefers>(JSON.parse(kept ?? 'null'))
    return { whenBusy: oneOf(m.whenBusy, busyChoices), doNotDisturb: flag(m.doNotDisturb) }
  } catch (error) {
    if (error instanceof Malformed || error instanceof SyntaxError) return undefined
    throw error
  }
}
