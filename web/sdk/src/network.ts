/** The Network Information API, which TypeScript does not know; not in every browser. */
interface WithConnection {
  readonly connection?: EventTarget
}

/** Calls `listener` when the browser says that its network is back, or another one, until it is told to stop. */
export function watchNetwork(listener: () => void): () => void {
  const { connection } = (globalThis.navigator ?? {}) as Navigator & WithConnection
  const watched: readonly [EventTarget | undefined, string][] = [
    [globalThis.window, 'online'],
    [connection, 'change'],
  ]
  for (const [target, event] of watched) target?.addEventListener(event, listener)
  return () => {
    for (const [target, event] of watched) target?.removeEventListener(event, listener)
  }
}
