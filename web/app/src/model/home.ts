import { batch, computed, type Signal, signal } from '@preact/signals'
import type { CallRecord, User } from 'visavis'
import type { Client } from '../client.ts'
import type { Settings } from '../settings.ts'
import type { Person } from './person.ts'

export type Section = 'people' | 'recents' | 'me'

/** How soon a list of calls that was incomplete is asked for again. */
export const completesMs = 15_000

const recentsLimit = 50

/** Who is here, who called, and which person is looked at. */
export class Home {
  readonly section = signal<Section>('people')
  readonly query = signal('')
  /** Who is here, by name. */
  readonly users = signal<readonly User[]>([])
  /** Newest first; undefined until they were fetched. */
  readonly recents = signal<readonly CallRecord[] | undefined>(undefined)
  readonly recentsLost = signal(false)
  /** Some calls are not among them yet. */
  readonly recentsIncomplete = signal(false)
  /** Up to when the person has seen which calls they missed: by the server's clock, in ms. */
  readonly #seen: Signal<number | undefined>
  /** How many calls were missed since then. */
  readonly unseen = computed(() => {
    const seen = this.#seen.value
    const missed = (record: CallRecord) => record.missed && record.direction === 'in'
    const recent = this.recents.value?.filter((r) => seen !== undefined && +r.rungAt > seen) ?? []
    return this.section.value === 'recents' ? 0 : recent.filter(missed).length
  })
  /** The person the visitor has chosen. */
  readonly chosen = signal<Person | undefined>(undefined)

  /**
   * Whom I can call: who is here, those of the last calls first and the others by name, then those who know me, the last
   * one first; the server may still reach them.
   */
  readonly people = computed<readonly User[]>(() => {
    const recents = this.recents.value ?? []
    const last = new Map<string, number>()
    for (const [i, { peer }] of recents.entries()) if (!last.has(peer.id)) last.set(peer.id, i)
    const rank = ({ id }: User) => last.get(id) ?? recents.length
    const people = [...this.users.value].sort((a, b) => rank(a) - rank(b))
    const ids = new Set(people.map(({ id }) => id))
    const names = new Set(people.map(({ name }) => fold(name)))
    for (const { peer } of recents.filter(knowsMe)) {
      // Who comes back as another guest takes their name along: the one of before is not there any more.
      if (ids.has(peer.id) || names.has(fold(peer.name))) continue
      people.push({ ...peer, presence: 'offline' })
      ids.add(peer.id)
      names.add(fold(peer.name))
    }
    return people
  })

  readonly found = computed(() => {
    const query = fold(this.query.value)
    return this.people.value.filter((user) => fold(user.name).includes(query))
  })

  /** The person to show large where there is room: the chosen one, or else the first. */
  readonly shown = computed<User | undefined>(() => {
    const chosen = this.chosen.value
    if (!chosen) return this.people.value[0]
    return this.people.value.find((u) => u.id === chosen.id) ?? { ...chosen, presence: 'offline' }
  })

  /** The last calls with the person shown. */
  readonly lastCalls = computed(() => {
    const id = this.shown.value?.id
    return (this.recents.value ?? []).filter((record) => record.peer.id === id).slice(0, 5)
  })

  /** This person was in no call yet, as far as is known: they rang nobody, and took no call. */
  readonly neverCalled = computed(() => {
    const recents = this.recents.value
    if (!recents || this.recentsIncomplete.value || recents.length >= recentsLimit) return false
    return !recents.some((r) => r.direction === 'out' || r.acceptedAt !== undefined)
  })

  readonly #client: Pick<Client, 'calls'>
  #fetches = 0
  #again: ReturnType<typeof setTimeout> | undefined
  /** How far this device's clock is behind the server's, in ms. */
  #behind = 0

  readonly #settings: Pick<Settings, 'seen'>

  constructor(client: Pick<Client, 'calls'>, settings: Pick<Settings, 'seen'>) {
    this.#client = client
    this.#settings = settings
    this.#seen = signal(settings.seen)
  }

  /** The person sees which calls they missed. */
  see(): void {
    const [last] = this.recents.value ?? []
    this.#settings.seen = +(last?.rungAt ?? 0)
    this.#seen.value = this.#settings.seen
  }

  async fetchRecents(): Promise<void> {
    const fetch = ++this.#fetches
    clearTimeout(this.#again)
    try {
      const { calls, incomplete, at } = await this.#client.calls({ limit: recentsLimit })
      // An answer that was overtaken is an old one.
      if (fetch !== this.#fetches) return
      this.#behind = +at - Date.now()
      batch(() => {
        this.recents.value = calls
        this.recentsIncomplete.value = incomplete
        this.recentsLost.value = false
      })
      if (incomplete) this.#again = setTimeout(() => void this.fetchRecents(), completesMs)
      // What came before this browser knew of any is nothing new.
      if (this.#seen.value === undefined || this.section.value === 'recents') this.see()
    } catch {
      if (fetch === this.#fetches) this.recentsLost.value = true
    }
  }

  /** The time by the clock that calls are dated by. */
  now(): Date {
    return new Date(Date.now() + this.#behind)
  }

  /** How somebody is called who may not be here any more. */
  nameOf(id: string): string | undefined {
    const record = this.recents.value?.find(({ peer }) => peer.id === id)
    return this.users.value.find((user) => user.id === id)?.name ?? record?.peer.name
  }

  forget(): void {
    this.section.value = 'people'
    this.query.value = ''
    this.recents.value = undefined
    this.recentsIncomplete.value = false
    clearTimeout(this.#again)
    this.#fetches++
    this.chosen.value = undefined
  }
}

/** Whether its peer has rung me or accepted my call. Devices of others ring for none but those who are here. */
function knowsMe({ direction, acceptedAt }: CallRecord): boolean {
  return direction === 'in' || acceptedAt !== undefined
}

function fold(text: string): string {
  return text
    .trim()
    .normalize('NFD')
    .replace(/\p{Mn}/gu, '')
    .toLocaleLowerCase()
}
