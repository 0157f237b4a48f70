// What this browser remembers: the name between visits, and whatever the SDK keeps beside it; and over a reload with whom
// a call was on.

import type { Person } from './model/home.ts'

const nameKey = 'visavis.name'
const callKey = 'visavis.with'
const shortcutsKey = 'visavis.shortcuts'

export class Settings {
  readonly #storage: Storage | undefined
  readonly #pageStorage: Storage | undefined

  /** Without storage (some browsers refuse it in private windows) nothing is remembered. */
  constructor(storage: Storage | undefined, pageStorage?: Storage) {
    this.#storage = storage
    this.#pageStorage = pageStorage
  }

  get name(): string {
    return this.#storage?.getItem(nameKey) ?? ''
  }

  set name(name: string) {
    // Full or refused: the name is asked for again next time.
    keep(this.#storage, nameKey, name)
  }

  /** Whether single letters are keys of a call. */
  get shortcuts(): boolean {
    return this.#storage?.getItem(shortcutsKey) !== 'off'
  }

  set shortcuts(use: boolean) {
    keep(this.#storage, shortcutsKey, use ? 'on' : 'off')
  }

  /** With whom this page is in a call, or the page was whose place it has taken. */
  get call(): Person | undefined {
    try {
      const kept: unknown = JSON.parse(this.#pageStorage?.getItem(callKey) ?? 'null')
      const known = typeof kept === 'object' && kept !== null && 'id' in kept && 'name' in kept
      return known ? { id: String(kept.id), name: String(kept.name) } : undefined
    } catch {
      return undefined
    }
  }

  set call(peer: Person | undefined) {
    // Full or refused: the call comes back a moment later, unannounced.
    if (peer) keep(this.#pageStorage, callKey, JSON.stringify(peer))
    else this.#pageStorage?.removeItem(callKey)
  }

  /** Forgets everything, what the SDK keeps too: the next person at this browser is somebody else. */
  forget(): void {
    this.#storage?.clear()
    this.#pageStorage?.clear()
  }
}

function keep(storage: Storage | undefined, key: string, value: string): void {
  try {
    storage?.setItem(key, value)
  } catch {
    // Whoever asks for it does without.
  }
}

/** The browser's storage, where it gives us one. */
export function browserStorage(which: 'localStorage' | 'sessionStorage'): Storage | undefined {
  try {
    return window[which]
  } catch {
    return undefined
  }
}
