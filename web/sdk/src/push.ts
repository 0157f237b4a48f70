import { fields, flag, Malformed, text } from './decoders.ts'
import { VisavisError } from './error.ts'
import { Emitter } from './events.ts'
import { deletePush, fetchPushKey, putPush } from './http.ts'
import type { Keep } from './storage.ts'
import { person } from './wire.ts'

/**
 * Whether this device is rung while no page of it is open: it cannot be (`unsupported`), the server does not do that
 * (`unavailable`), the person does not let this page show notifications (`blocked`), or it is `off` or `on`.
 */
export type PushReadiness = 'unsupported' | 'unavailable' | 'blocked' | 'off' | 'on'

/** The events of a {@link Push}, and what a listener gets with each. */
export interface PushEvents {
  /** Whether this device rings while no page is open changed from `old` to `new`. */
  state: { readonly old: PushReadiness; readonly new: PushReadiness }
}

/** The address of a script: text, or a TrustedScriptURL where the page's policy asks for one. */
export interface ScriptAddress {
  toString(): string
}

/** A call that the person answered on its notification, as the worker tells its page. */
export interface Answered {
  /** Its id. */
  readonly answer: string
  readonly from: { readonly id: string; readonly name: string }
  readonly video: boolean
}

/** What a {@link Push} needs of the page it is in. */
export interface PushOwner {
  readonly server: URL
  readonly storage: Keep
  /** Where it keeps in `storage` that the person wants it. */
  readonly key: string
  readonly worker: ScriptAddress | undefined
  token(): string | undefined
  doNotDisturb(): boolean
  /** {@link Push.device} is another one. */
  deviceChanged(): void
  answered(call: Answered): void
}

/**
 * Ringing this device by Web Push while no page of it is open. The browser's subscription and the server's
 * knowledge of it are brought together at each new session.
 */
export class Push extends Emitter<PushEvents> {
  readonly #owner: PushOwner
  readonly #supported: boolean
  #state: PushReadiness
  /** The server has said that it does not push. */
  #unavailable = false
  #subscription: PushSubscription | undefined
  #device: string | undefined
  /** The server does not know the subscription as it is now. */
  #stale = true
  /** What is being done; one thing at a time. */
  #queue: Promise<unknown> = Promise.resolve()

  constructor(owner: PushOwner) {
    super()
    this.#owner = owner
    const { navigator, PushManager, Notification } = globalThis
    const workers: ServiceWorkerContainer | undefined = navigator?.serviceWorker
    this.#supported =
      owner.worker !== undefined &&
      workers !== undefined &&
      PushManager !== undefined &&
      Notification !== undefined
    this.#state = this.#readState()
    if (!this.#supported) return
    workers.addEventListener('message', ({ data }) => {
      const call = readAnswered(data)
      if (call) owner.answered(call)
    })
    workers.startMessages()
    // To be turned off at once, should the person leave before the page is online.
    if (this.#wanted) void this.#enqueue(() => this.#find()).catch(() => undefined)
  }

  get state(): PushReadiness {
    return this.#state
  }

  /** What the server calls this device, while it is pushed to. @internal */
  get device(): string | undefined {
    return this.#device
  }

  /**
   * Turns it on. The browser may ask the person, and does so only in answer to a click or a key: call it from there,
   * and while online. Rejects with `not_allowed` when the person refuses, `unsupported`, `no_push_service` when the
   * browser's own push service fails, or why the server refused.
   */
  async turnOn(): Promise<void> {
    if (!this.#supported) {
      throw new VisavisError('unsupported', 'This browser cannot ring while the page is closed.')
    }
    const permission = await Notification.requestPermission()
    if (permission !== 'granted') {
      this.look()
      throw new VisavisError('not_allowed', 'The page may not show notifications.')
    }
    await this.#enqueue(() => this.#subscribe())
  }

  /** Turns it off for this device. */
  async turnOff(): Promise<void> {
    await this.#enqueue(() => this.#unsubscribe())
  }

  /** Looks again what this device can: the person may have changed that in the browser, or in another tab. */
  look(): void {
    const was = this.#state
    this.#setState(this.#readState())
    if (was !== 'on' && this.#state === 'on') this.renew()
  }

  /** There is a session: a new one, or one that goes on. @internal */
  online(anew: boolean): void {
    if (anew) this.#stale = true
    if (this.#stale) this.renew()
  }

  /** What the server knows of this device is no longer so. @internal */
  renew(): void {
    this.#stale = true
    this.#setState(this.#readState())
    if (!this.#wanted || !this.#supported || Notification.permission !== 'granted') return
    // What fails is tried again at the next session; until then the server has what it had.
    this.#enqueue(() => this.#subscribe(true)).catch(() => undefined)
  }

  /** The person who has `token` leaves this device: off at once, for the page may go, too. @internal */
  forget(token: string | undefined): void {
    if (this.#wanted) void this.#unsubscribe(token).catch(() => undefined)
  }

  get #wanted(): boolean {
    const { storage, key } = this.#owner
    return storage.getItem(key) !== null
  }

  #setWanted(wants: boolean): void {
    const { storage, key } = this.#owner
    if (wants) storage.setItem(key, 'on')
    else storage.removeItem(key)
    this.#setState(this.#readState())
  }

  #readState(): PushReadiness {
    if (!this.#supported) return 'unsupported'
    if (Notification.permission === 'denied') return 'blocked'
    if (this.#unavailable) return 'unavailable'
    return this.#wanted && Notification.permission === 'granted' ? 'on' : 'off'
  }

  #setState(state: PushReadiness): void {
    const old = this.#state
    if (old === state) return
    this.#state = state
    this.emit('state', { old, new: state })
  }

  async #enqueue<T>(act: () => Promise<T>): Promise<T> {
    const done = this.#queue.then(act)
    this.#queue = done.catch(() => undefined)
    return done
  }

  /** Subscribes at the browser's push service, unless it is so, and tells the server; `again` for what was on before. */
  async #subscribe(again = false): Promise<void> {
    const key = await this.#fetchKey()
    const { pushManager } = await this.#register()
    const before = await pushManager.getSubscription()
    if (before && keyOf(before) !== key) await before.unsubscribe()
    const subscription =
      before && keyOf(before) === key ? before : await subscribe(pushManager, key)
    // Left, or turned off in another tab.
    const token = this.#owner.token()
    if (token === undefined) throw new VisavisError('offline', 'Nobody is here to be rung.')
    if (again && !this.#wanted) return
    await putPush(this.#owner.server, token, subscription.toJSON(), this.#owner.doNotDisturb())
    if (this.#owner.token() === undefined) {
      await this.#revoke(subscription, token)
      throw new VisavisError('offline', 'Nobody is here to be rung.')
    }
    this.#stale = false
    this.#setWanted(true)
    this.#subscribed(subscription)
  }

  async #unsubscribe(token = this.#owner.token()): Promise<void> {
    this.#setWanted(false)
    const subscription = this.#subscription ?? (await this.#find())
    this.#subscribed(undefined)
    if (subscription) await this.#revoke(subscription, token)
  }

  async #revoke(subscription: PushSubscription, token: string | undefined): Promise<void> {
    // Either is enough: what is pushed to a subscription that is gone, the push service refuses.
    await Promise.allSettled([
      deletePush(this.#owner.server, token, subscription.endpoint),
      subscription.unsubscribe(),
    ])
  }

  async #fetchKey(): Promise<string> {
    try {
      const key = await fetchPushKey(this.#owner.server)
      this.#unavailable = false
      return key
    } catch (error) {
      if (error instanceof VisavisError && error.code === 'not_found') {
        this.#unavailable = true
        this.#setState(this.#readState())
      }
      throw error
    }
  }

  async #find(): Promise<PushSubscription | undefined> {
    const { pushManager } = await this.#register()
    this.#subscribed(this.#subscription ?? (await pushManager.getSubscription()) ?? undefined)
    return this.#subscription
  }

  #subscribed(subscription: PushSubscription | undefined): void {
    if (subscription?.endpoint === this.#subscription?.endpoint) return
    this.#subscription = subscription
    this.#setDevice(undefined)
    if (!subscription) return
    void idOf(subscription).then((id) => {
      if (this.#subscription === subscription) this.#setDevice(id)
    })
  }

  #setDevice(device: string | undefined): void {
    this.#device = device
    this.#owner.deviceChanged()
  }

  /** The worker, once it is at work. */
  async #register(): Promise<ServiceWorkerRegistration> {
    try {
      // A TrustedScriptURL, which the types do not know, must come there as it is.
      const address = this.#owner.worker as string
      const registration = await navigator.serviceWorker.register(address)
      await active(registration)
      return registration
    } catch {
      throw new VisavisError('no_worker', 'The browser could not start the page’s worker.')
    }
  }
}

async function subscribe(manager: PushManager, key: string): Promise<PushSubscription> {
  try {
    return await manager.subscribe({ userVisibleOnly: true, applicationServerKey: key })
  } catch {
    throw new VisavisError('no_push_service', 'The browser’s push service does not answer.')
  }
}

/** Resolves when a worker of the registration is at work. */
function active({ installing, waiting, active }: ServiceWorkerRegistration): Promise<void> {
  const worker = active ?? waiting ?? installing
  return new Promise((resolve, reject) => {
    const look = () => {
      if (worker?.state === 'redundant') reject(new Error('the worker did not start'))
      if (worker?.state === 'activated') resolve()
    }
    worker?.addEventListener('statechange', look)
    look()
  })
}

/** What the server calls a device, without its endpoint, which lets others push to it. */
async function idOf({ endpoint }: PushSubscription): Promise<string> {
  return base64url(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(endpoint)))
}

/** What it was subscribed with, as the server writes its key. */
function keyOf({ options }: PushSubscription): string {
  return base64url(options.applicationServerKey ?? new ArrayBuffer(0))
}

function base64url(buffer: ArrayBuffer): string {
  const bytes = new Uint8Array(buffer)
  return btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '')
}

function readAnswered(data: unknown): Answered | undefined {
  try {
    const m = fields<keyof Answered>(data)
    return { answer: text(m.answer), from: person(m.from), video: flag(m.video) }
  } catch (error) {
    // Some other message of the page's worker.
    if (error instanceof Malformed) return undefined
    throw error
  }
}
