// What this browser remembers between visits: the name, and whatever the SDK keeps beside it.

const nameKey = 'visavis.name'

export class Settings {
  readonly #storage: Storage | undefined

  /** Without storage (some browsers refuse it in private windows) nothing is remembered. */
  constructor(storage: Storage | undefined) {
    this.#storage = storage
  }

  get name(): string {
    return this.#storage?.getItem(nameKey) ?? ''
  }

  set name(name: string) {
    try {
      this.#storage?.setItem(nameKey, name)
    } catch {
      // Full or refused: the name is asked for again next time.
    }
  }

  /** Forgets everything, the token too: the next person at this browser is somebody else. */
  forget(): void {
    this.#storage?.clear()
  }
}

/** The browser's storage, where it gives us one. */
export function browserStorage(): Storage | undefined {
  try {
    return window.localStorage
  } catch {
    return undefined
  }
}
