import { type Signal, signal } from '@preact/signals'
import type { Prefers } from 'visavis'
import type { Client } from '../client.ts'
import type { Settings } from '../settings.ts'

/** What the person has chosen on the page *Me*. The client and the settings keep it. */
export class Choices {
  /** What becomes of a ring while I am in a call, or want to be left alone. */
  readonly prefers: Signal<Prefers>
  /** The people I talk to do not see my network address. */
  readonly alwaysRelay: Signal<boolean>
  /** Strangers who call me do not see it. */
  readonly relayStrangers: Signal<boolean>
  /** M and C work in a call. Those who talk to their machine switch them off. */
  readonly shortcuts: Signal<boolean>

  readonly #client: Pick<Client, 'prefers' | 'prefer' | 'alwaysRelay' | 'relayStrangers'>
  readonly #settings: Pick<Settings, 'shortcuts'>

  constructor(
    client: Pick<Client, 'prefers' | 'prefer' | 'alwaysRelay' | 'relayStrangers'>,
    settings: Pick<Settings, 'shortcuts'>,
  ) {
    this.#client = client
    this.#settings = settings
    this.prefers = signal(client.prefers)
    this.alwaysRelay = signal(client.alwaysRelay)
    this.relayStrangers = signal(client.relayStrangers)
    this.shortcuts = signal(settings.shortcuts)
  }

  prefer(change: Partial<Prefers>): void {
    this.#client.prefer(change)
    this.read()
  }

  hideAddress(hide: boolean): void {
    this.#client.alwaysRelay = hide
    this.alwaysRelay.value = this.#client.alwaysRelay
  }

  hideAddressFromStrangers(hide: boolean): void {
    this.#client.relayStrangers = hide
    this.relayStrangers.value = this.#client.relayStrangers
  }

  useShortcuts(use: boolean): void {
    this.#settings.shortcuts = use
    this.shortcuts.value = use
  }

  /** Another tab may have changed them. */
  read(): void {
    this.prefers.value = this.#client.prefers
    this.shortcuts.value = this.#settings.shortcuts
    this.alwaysRelay.value = this.#client.alwaysRelay
    this.relayStrangers.value = this.#client.relayStrangers
  }
}
