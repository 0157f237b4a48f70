/**
 * Decoders of unknown values. Each returns the value with the type that its name says, or throws
 * {@link Malformed}.
 */

/** The value is not what it should be. */
export class Malformed extends Error {}

/** Fields by name, none of them looked at yet. */
export type Fields<F extends string> = { readonly [Name in F]?: unknown }

export function fields<F extends string>(value: unknown): Fields<F> {
  if (typeof value !== 'object' || value === null) throw new Malformed()
  return value
}

export function text(value: unknown): string {
  if (typeof value !== 'string') throw new Malformed()
  return value
}

export function flag(value: unknown): boolean {
  if (typeof value !== 'boolean') throw new Malformed()
  return value
}

export function count(value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw new Malformed()
  return value
}

export function optional<T>(value: unknown, read: (value: unknown) => T): T | undefined {
  return value === undefined || value === null ? undefined : read(value)
}

export function list<T>(value: unknown, read: (value: unknown) => T): readonly T[] {
  if (value === undefined || value === null) return []
  if (!Array.isArray(value)) throw new Malformed()
  return value.map((item) => read(item))
}

export function oneOf<T extends string>(value: unknown, words: readonly T[]): T {
  const word = words.find((each) => each === value)
  if (word === undefined) throw new Malformed()
  return word
}
