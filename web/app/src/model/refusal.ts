/** Why something that a person asked for was not done. */
export interface Refusal {
  readonly code: string
  readonly message: string
}

export function asRefusal(error: unknown): Refusal {
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'internal'
  return { code, message: error instanceof Error ? error.message.replace(/\.$/u, '') : '' }
}
