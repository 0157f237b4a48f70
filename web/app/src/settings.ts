// What this browser remembers: the name between visits, and whatever the SDK keeps beside it; and over a reload with whom
// a call was on.

import { type Keep, KeptStorage, openStorage } from 'visavis'
import type { Person } from './model/person.ts'

const nameKey = 'visavis.name'
const callKey = 'visavis.with'
const seenKey = 'visavis.seen'
const shortcutsKey = 'visavis.shortcuts'

export class Settings {
  readonly #storage: Keep
  readonly #pageStorage: Keep

  /** By default, the browser's own: what that does not take lasts for the visit. */
  constructor(
    storage: Keep = openStorage('localStorage'),
    pageStorage: Keep = openStorage('sessionStorage'),
  ) {
    this.#storage = storage
    this.#pageStorage = pageStorage
  }

  /** Settings that nobody keeps. */
  static ofThisVisit(): Settings {
    return new Settings(new KeptStorage(null), new KeptStorage(null))
  }

  get name(): string {
    return this.#storage.getItem(nameKey) ?? ''
  }

  set name(name: string) {
    this.#storage.setItem(nameKey, name)
  }

  /** Whether single letters are keys of a call. */
  get shortcuts(): boolean {
    return this.#storage.getItem(shortcutsKey) !== 'off'
  }

  set shortcuts(use: boolean) {
    this.#storage.setItem(shortcutsKey, use ? 'on' : 'off')
  }

  /** Up to when the person has seen which calls they missed, in ms since 1970; undefined before the first look. */
  get seen(): number | undefined {
    const kept = this.#storage.getItem(seenKey)
    return kept === null || !Number.isFinite(Number(kept)) ? undefined : Number(kept)
  }

  set seen(at: number | undefined) {
    if (at === undefined) this.#storage.removeItem(seenKey)
    else this.#storage.setItem(seenKey, `${at}`)
  }

  /** With whom this page is in a call, or the page was whose place it has taken. */
  get call(): Person | undefined {
    try {
      const kept: unknown = JSON.parse(this.#pageStorage.getItem(callKey) ?? 'null')
      const known = typeof kept === 'object' && kept !== null && 'id' in kept && 'name' in kept
      return known ? { id: String(kept.id), name: String(kept.name) } : undefined
    } catch {
      return undefined
    }
  }

  set call(peer: Person | undefined) {
    if (peer) this.#pageStorage.setItem(callKey, JSON.stringify(peer))
    else this.#pageStorage.removeItem(callKey)
  }

  /** Forgets everything, what the SDK keeps too: the next person at this browser is somebody else. */
  forget(): void {
    this.#storage.clear()
    this.#pageStorage.clear()
  }
}
