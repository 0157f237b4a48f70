/** Tells listeners what happened; `Events` names each event and the type of what it brings. */
export class Emitter<Events extends object> {
  readonly #listeners: { [E in keyof Events]?: Set<(value: Events[E]) => void> } = {}

  /** Calls `listener` at each `event` until the function that it returns is called. */
  on<E extends keyof Events>(event: E, listener: (value: Events[E]) => void): () => void {
    let listeners = this.#listeners[event]
    if (!listeners) {
      listeners = new Set()
      this.#listeners[event] = listeners
    }
    listeners.add(listener)
    return () => listeners.delete(listener)
  }

  protected emit<E extends keyof Events>(event: E, value: Events[E]): void {
    for (const listener of [...(this.#listeners[event] ?? [])]) {
      try {
        listener(value)
      } catch (error) {
        // The page's mistake: it shows in the page's console and never stops a call.
        queueMicrotask(() => {
          throw error
        })
      }
    }
  }
}
