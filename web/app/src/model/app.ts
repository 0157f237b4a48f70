// The page's state, without the page: which screen stands, and what a person can do from it. It follows the SDK's
// client and holds no truth of its own about calls or people.

import { batch, computed, effect, signal } from '@preact/signals'
import type { Abilities, Answered, ConnectionState, EndDetail, Place, User } from 'visavis'
import type { Call, Client } from '../client.ts'
import type { Settings } from '../settings.ts'
import { After } from './after.ts'
import { CallModel } from './call.ts'
import { Choices } from './choices.ts'
import { Home } from './home.ts'
import type { Person } from './person.ts'
import type { OpenPreview } from './preview.ts'
import { PushModel } from './push.ts'
import { asRefusal, type Refusal } from './refusal.ts'

export type Screen = 'opening' | 'returning' | 'door' | 'home' | 'ringing' | 'call'

/** How long a page that was loaded anew waits to come in before it shows what keeps it out. */
export const returnsMs = 10_000
/** How long it then waits for the call that it was in, which the server sends at once. */
export const rejoinsMs = 2000

export interface Surroundings {
  readonly client: Client
  readonly settings: Settings
  /** Whether the browser gives this page a camera at all. */
  readonly secure: boolean
  /** What the browser can do at all; by default, everything. */
  readonly able?: Abilities
  /** It rings while the page is closed only once the page is on the home screen. */
  readonly wantsHomeScreen?: boolean
  readonly preview?: OpenPreview
  /** Begins the page anew, after somebody has left: the SDK keeps no trace of them then. */
  readonly restart?: () => void
}

export class App {
  readonly place = signal<Place | undefined>(undefined)
  /** What this place is called; until that is known, by the name of the program. */
  readonly placeName = computed(() => this.place.value?.name ?? 'Visavis')
  readonly connection = signal<ConnectionState>('idle')
  /** Of a connection that is offline: the server answers, but no WebSocket opens. */
  readonly blocked = signal(false)
  readonly user = signal<User | undefined>(undefined)
  readonly refusal = signal<Refusal | undefined>(undefined)
  /** A name was given and the server has not answered yet. */
  readonly entering = signal(false)
  /** Another name was given and the server has not answered yet. */
  readonly renaming = signal(false)
  readonly renamed = signal(false)
  /** The person wants to be signed out everywhere, and the server has not answered yet. */
  readonly signingOut = signal(false)
  /** Why that came to nothing. */
  readonly signOutRefusal = signal<Refusal | undefined>(undefined)
  readonly call = signal<CallModel | undefined>(undefined)
  /** Rings while `call` is on, and takes its place when that ends. */
  readonly waiting = signal<CallModel | undefined>(undefined)
  /** The browser lets this page make no sound before it is touched. */
  readonly silent = signal(false)
  /** With whom the page before this one was in a call that is about to come back. */
  readonly returning = signal<Person | undefined>(undefined)
  readonly after = signal<After | undefined>(undefined)
  readonly choices: Choices
  readonly push: PushModel
  readonly home: Home
  readonly secure: boolean
  readonly able: Abilities
  readonly wantsHomeScreen: boolean

  /** The connection was there and is gone: the page says so. */
  readonly disconnected = computed(() => this.#inside.value && this.connection.value !== 'online')

  readonly screen = computed<Screen>(() => {
    const call = this.call.value
    if (call && !call.ignored.value) {
      const state = call.state.value
      return state === 'calling' || state === 'ringing' ? 'ringing' : 'call'
    }
    if (this.returning.value) return 'returning'
    if (this.#inside.value) return 'home'
    const straightIn = this.#remembered.value && this.connection.value !== 'offline'
    return straightIn ? 'opening' : 'door'
  })

  readonly #client: Client
  readonly #settings: Settings
  readonly #preview: OpenPreview | undefined
  readonly #restart: (() => void) | undefined
  readonly #inside = signal(false)
  readonly #remembered = signal(false)
  #returnTimer: ReturnType<typeof setTimeout> | undefined

  constructor(surroundings: Surroundings) {
    const { client, settings, secure, wantsHomeScreen = false, preview, restart } = surroundings
    this.able = surroundings.able ?? { calls: true, devices: true }
    this.#client = client
    this.#settings = settings
    this.#preview = preview
    this.#restart = restart
    this.secure = secure
    this.wantsHomeScreen = wantsHomeScreen
    this.push = new PushModel(client.push)
    this.choices = new Choices(client, settings)
    if (settings.name !== '') this.returning.value = settings.call
    this.home = new Home(client, settings)
    client.on('state', (e) => {
      this.connection.value = e.new
      if (e.new === 'offline') this.blocked.value = e.error?.code === 'websocket_blocked'
      if (e.new === 'online') this.user.value = client.user
      // Who signs out here leaves by themselves.
      if (e.new === 'refused' && !this.signingOut.value) this.#turnedAway(e.error)
    })
    client.on('users', (users) => {
      this.home.users.value = users
    })
    client.on('ring', (call) => this.#take(call))
    client.on('callrecorded', () => void this.home.fetchRecents())
    client.on('answeredtoolate', (call) => void this.#cameTooLate(call))
    client.on('call', (call) => {
      if (call) this.#take(call)
    })
    effect(() => {
      const call = this.call.value
      const state = call?.state.value
      const active = state === 'connecting' || state === 'connected' || state === 'reconnecting'
      settings.call = active ? call?.peer : this.returning.value
    })
    effect(() => this.call.value?.layout.bar.hold('waiting', this.waiting.value !== undefined))
  }

  get rememberedName(): string {
    return this.#settings.name
  }

  /** Asks what this place is called, and goes straight in if this browser knows its person. */
  async start(): Promise<void> {
    const name = this.#settings.name
    void this.#findPlace()
    if (!this.able.calls) {
      this.returning.value = undefined
      return // nobody may ring somebody who cannot take a call
    }
    this.#remembered.value = name !== ''
    this.#returnWithin(returnsMs)
    if (name !== '') await this.enter(name)
  }

  async enter(typed: string): Promise<void> {
    const name = typed.trim()
    if (name === '') {
      this.refusal.value = { code: 'name_missing', message: '' }
      return
    }
    this.refusal.value = undefined
    this.entering.value = true
    try {
      const user = await this.#client.connect({ name })
      this.#cameIn(user)
    } catch (error) {
      this.#turnedAway(error)
    } finally {
      this.entering.value = false
    }
  }

  /** Takes another name on, where it is; the old one stays if the new one is refused. */
  async rename(typed: string): Promise<void> {
    const name = typed.trim()
    this.renamed.value = false
    if (name === this.user.value?.name) return
    if (name === '') {
      this.refusal.value = { code: 'name_missing', message: '' }
      return
    }
    this.refusal.value = undefined
    this.renaming.value = true
    try {
      const user = await this.#client.rename(name)
      this.#settings.name = user.name
      this.user.value = user
      this.renamed.value = true
    } catch (error) {
      this.refusal.value = asRefusal(error)
    } finally {
      this.renaming.value = false
    }
  }

  /** Leaves this place; this browser forgets who was here. */
  leave(): void {
    this.#client.close({ forget: true })
    this.#settings.forget()
    batch(() => {
      this.#inside.value = false
      this.#remembered.value = false
      this.refusal.value = undefined
      this.after.value = undefined
      this.home.forget()
    })
    this.#restart?.()
  }

  /** Leaves this place on all devices: who comes in next, by this name or another, is somebody new. */
  async signOut(): Promise<void> {
    if (this.signingOut.value) return
    this.signOutRefusal.value = undefined
    this.signingOut.value = true
    try {
      await this.#client.signOut()
      this.leave()
    } catch (error) {
      this.signOutRefusal.value = asRefusal(error)
    } finally {
      this.signingOut.value = false
    }
  }

  ring(person: Person, video: boolean): void {
    const call = this.call.value
    if (call) {
      // An ignored call rings on: it wants an answer before another can be made.
      call.ignored.value = false
      return
    }
    this.after.value?.close()
    this.#take(this.#client.ring(person.id, { video }))
  }

  /** Ends the call that is on for the one that waits; a camera that is off now stays off. */
  acceptWaiting(): void {
    const waiting = this.waiting.value
    const camera = this.call.value?.devices.shown.value.video ?? false
    batch(() => waiting?.accept(waiting.video.value && camera))
  }

  async #findPlace(): Promise<void> {
    try {
      this.place.value = await this.#client.place()
    } catch {
      // The door stands without its name; the connection's own trouble is told there.
    }
  }

  #cameIn(user: User): void {
    batch(() => {
      this.#settings.name = user.name
      this.user.value = user
      this.home.users.value = this.#client.users
      this.#inside.value = true
      this.#remembered.value = true
    })
    this.#returnWithin(rejoinsMs)
    if (!this.place.value) void this.#findPlace()
    void this.home.fetchRecents()
  }

  #turnedAway(error: unknown): void {
    const refusal = asRefusal(error)
    batch(() => {
      if (refusal.code === 'signed_out') {
        this.#settings.forget()
        this.home.forget()
      }
      this.#inside.value = false
      this.#remembered.value = false
      this.returning.value = undefined
      this.refusal.value = refusal
    })
  }

  /** Gives the call of the page before so long to come back. */
  #returnWithin(ms: number): void {
    clearTimeout(this.#returnTimer)
    if (!this.returning.value) return
    this.#returnTimer = setTimeout(() => {
      this.returning.value = undefined
    }, ms)
  }

  #take(call: Call): void {
    if (this.call.value?.shows(call) || this.waiting.value?.shows(call)) return
    this.after.value?.close()
    const beside = this.call.value !== undefined
    const known = this.home.nameOf(call.peer.id)
    const model = new CallModel(call, (m, end) => this.#ended(m, end), { known, beside })
    batch(() => {
      this.returning.value = undefined
      if (model.state.value === 'ended') return
      if (beside) this.waiting.value = model
      else this.#show(model)
    })
  }

  #show(model: CallModel): void {
    this.call.value = model
    if (this.#preview) void model.look(this.#preview)
  }

  #ended(call: CallModel, end: EndDetail): void {
    const goesOn = end.reason === 'merged' || end.reason === 'migrated'
    batch(() => {
      const waiting = this.waiting.value
      if (this.call.value === call || waiting === call) this.waiting.value = undefined
      if (this.call.value === call) {
        this.call.value = undefined
        if (waiting) this.#show(waiting)
      }
      if (!goesOn && !call.ignored.value && !this.call.value) {
        const { peer, direction } = call
        this.#tellAfter({ peer, direction, video: call.video.value, end })
      }
    })
    void this.home.fetchRecents()
  }

  /** The person answered a call on its notification that is over: what became of it is in the list. */
  async #cameTooLate({ answer, from, video }: Answered): Promise<void> {
    await this.home.fetchRecents()
    if (this.call.value) return
    const record = this.home.recents.value?.find(({ id }) => id === answer)
    const end = { reason: record?.reason ?? 'error', by: undefined, error: undefined } as const
    this.#tellAfter({ peer: from, direction: 'in', video, end: { ...end, durationMs: 0 } })
  }

  #tellAfter(ended: Pick<After, 'peer' | 'direction' | 'video' | 'end'>): void {
    this.after.value?.close()
    const after = new After(ended, () => {
      if (this.after.value === after) this.after.value = undefined
    })
    this.after.value = after
  }
}
