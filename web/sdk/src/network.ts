/** The Network Information API, which TypeScript does not know; not in every browser. */
interface WithConnection {
  readonly connection?: EventTarget
}

/**
 * Calls `listener` when the browser says that its network is another one, until it is told to stop; `gone` says that there
 * was none in between.
 */
export function watchNetwork(listener: (gone: boolean) => void): () => void {
  const { connection } = (globalThis.navigator ?? {}) as Navigator & WithConnection
  const watched: readonly [EventTarget | undefined, string][] = [
    [globalThis.window, 'online'],
    [connection, 'change'],
  ]
  const hear = ({ type }: Event) => listener(type === 'online')
  for (const [target, event] of watched) target?.addEventListener(event, hear)
  return () => {
    for (const [target, event] of watched) target?.removeEventListener(event, hear)
  }
}
