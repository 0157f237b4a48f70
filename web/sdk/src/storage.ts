/** What a page keeps things in. */
export type Keep = Pick<Storage, 'getItem' | 'setItem' | 'removeItem' | 'clear'>

/**
 * A browser's storage that never fails. Browsers refuse storage in private windows and in frames, and it can be full:
 * what it does not take lasts as long as this page.
 */
export class KeptStorage implements Keep {
  readonly #storage: Keep | null
  /** What the storage did not take; null for what it did not remove. */
  readonly #visit = new Map<string, string | null>()

  constructor(storage: Keep | null) {
    this.#storage = storage
  }

  /** Whether what was kept under this key is there after a visit. */
  lasts(key: string): boolean {
    return !this.#visit.has(key) && this.getItem(key) !== null
  }

  getItem(key: string): string | null {
    const kept = this.#visit.get(key)
    if (kept !== undefined) return kept
    try {
      return this.#storage?.getItem(key) ?? null
    } catch {
      return null
    }
  }

  setItem(key: string, value: string): void {
    try {
      if (!this.#storage) throw new Error('no storage')
      this.#storage.setItem(key, value)
      this.#visit.delete(key)
    } catch {
      this.removeItem(key) // what was kept before is not true any more
      this.#visit.set(key, value)
    }
  }

  removeItem(key: string): void {
    try {
      this.#storage?.removeItem(key)
      this.#visit.delete(key)
    } catch {
      this.#visit.set(key, null)
    }
  }

  clear(): void {
    this.#visit.clear()
    try {
      this.#storage?.clear()
    } catch {
      // It is refused: nothing of ours is in it.
    }
  }
}

/** The browser's storage of that name, if it gives us one, made so that it never fails. */
export function openStorage(name: 'localStorage' | 'sessionStorage'): KeptStorage {
  try {
    return new KeptStorage(globalThis[name] ?? null)
  } catch {
    // A browser that blocks cookies throws at the mere name.
    return new KeptStorage(null)
  }
}
