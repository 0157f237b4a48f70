/**
 * What a page's service worker does for it: it rings while no page is open. Come in by {@link receivePushes}; the page
 * turns it on by `visavis.push`.
 */

import { fields, flag, Malformed, oneOf, optional, text } from './decoders.ts'
import { VisavisError } from './error.ts'
import { type PushedAct, postPushed } from './http.ts'
import type { Answered } from './push.ts'
import { decodePush, type PushMessage, type PushState, person, pushStates } from './wire.ts'

/** A notification's words. */
export interface Words {
  readonly title: string
  readonly body: string
}

/** What notifications say of a call: of one that rings, that a click answers it. */
export type Sentences = {
  readonly [State in PushState]: (from: string, video: boolean) => Words
} & {
  /** On the button that declines, where the browser shows one. */
  readonly decline: string
}

/** How a worker rings. */
export interface WorkerOptions {
  readonly say: Sentences
  /** The server, such as `https://calls.example.org`; default: where the worker came from. */
  readonly url?: string
  /** The page with the calls, which a click opens; default: the scope of the worker. */
  readonly page?: string
  /** The picture on notifications. */
  readonly icon?: string
}

/** A window, as a worker sees it. */
export interface WorkerWindow {
  readonly url: string
  readonly visibilityState: DocumentVisibilityState
  focus(): Promise<WorkerWindow>
  postMessage(message: Answered): void
}

/** What the types know of notifications, and what browsers show besides. */
export interface Shown extends NotificationOptions {
  readonly renotify?: boolean
  readonly vibrate?: readonly number[]
  readonly actions?: readonly { readonly action: string; readonly title: string }[]
}

/** A service worker's own global, as far as this one needs it: the types of pages lack it. */
export interface WorkerScope {
  readonly location: { readonly href: string }
  readonly registration: {
    readonly scope: string
    showNotification(title: string, options: Shown): Promise<void>
    getNotifications(filter: { tag: string }): Promise<readonly ShownNotification[]>
  }
  readonly clients: {
    matchAll(filter: {
      type: 'window'
      includeUncontrolled: boolean
    }): Promise<readonly WorkerWindow[]>
    openWindow(url: string): Promise<WorkerWindow | null>
  }
  skipWaiting(): Promise<void>
  addEventListener<E extends keyof WorkerEvents>(
    type: E,
    listener: (event: WorkerEvents[E] & { waitUntil(done: Promise<unknown>): void }) => void,
  ): void
}

/** A notification that stands. */
export type ShownNotification = Pick<Notification, 'data' | 'close'>

/** What comes to a worker. */
export interface WorkerEvents {
  install: object
  push: { readonly data: { text(): string } | null }
  notificationclick: { readonly action: string; readonly notification: ShownNotification }
}

// A late notification is worth little, and a server that can be reached answers at once.
const askMs = 4000
const vibration = [400, 200, 400, 200, 400]

/** Rings by notifications from now on. A worker calls it once, as it starts. */
export function receivePushes(
  options: WorkerOptions,
  worker = globalThis as unknown as WorkerScope,
): void {
  const notifier = new Notifier(options, worker)
  worker.addEventListener('install', (event) => event.waitUntil(worker.skipWaiting()))
  worker.addEventListener('push', (event) => event.waitUntil(notifier.pushed(event.data?.text())))
  worker.addEventListener('notificationclick', (event) =>
    event.waitUntil(notifier.clicked(event.notification, event.action)),
  )
}

class Notifier {
  readonly #say: Sentences
  readonly #worker: WorkerScope
  readonly #server: URL
  readonly #page: string
  readonly #icon: { readonly icon?: string }
  /** The last call that was declined here: the person knows what became of it. */
  #declined: string | undefined

  constructor({ say, url, page, icon }: WorkerOptions, worker: WorkerScope) {
    const { href } = worker.location
    this.#say = say
    this.#worker = worker
    this.#server = new URL(url ?? href)
    this.#page = new URL(page ?? worker.registration.scope, href).href
    this.#icon = icon === undefined ? {} : { icon }
  }

  /**
   * Each push shows a notification, if only for a moment: Safari ends the subscription of a page after three that show
   * none.
   */
  async pushed(data: string | undefined): Promise<void> {
    const push = decodePush(data)
    const pages = await this.#pages()
    const seen = pages.some(({ visibilityState }) => visibilityState === 'visible')
    if (push && !seen && push.call !== this.#declined) {
      await this.#show(push.state === 'ringing' ? await this.#withState(push) : push)
    } else {
      // A page that is seen rings and says what became of the call itself, and what was declined here is known.
      await this.#showBriefly(push)
    }
  }

  /** Shows a silent notification, in the place of the call's own if there is one, and takes it away. */
  async #showBriefly(push: PushMessage | undefined): Promise<void> {
    const { host } = new URL(this.#page)
    const { title, body } = push
      ? this.#say[push.state](push.from.name, push.video)
      : { title: host, body: '' }
    const tag = push?.call ?? host
    await this.#worker.registration.showNotification(title, {
      body,
      ...this.#icon,
      tag,
      silent: true,
    })
    for (const notification of await this.#shown(tag)) notification.close()
  }

  async clicked(notification: ShownNotification, action: string): Promise<void> {
    const call = readCall(notification.data)
    if (!call) return
    notification.close()
    if (action === 'decline') {
      this.#declined = call.call
      // If the server does not hear of it, the call rings on elsewhere until its time is over.
      await this.#report(call, 'decline').catch(() => undefined)
      return
    }
    const page = await this.#openPage()
    const { from, video } = call
    if (call.state === 'ringing') page?.postMessage({ answer: call.call, from, video })
  }

  /**
   * Tells the server that it rings here, and returns the push with the state that the server answers. Without an answer the
   * call counts as ringing for as long as the push said.
   */
  async #withState(push: PushMessage): Promise<PushMessage> {
    const at = Date.now()
    try {
      const { state } = await this.#report(push, 'ringing')
      return { ...push, state }
    } catch (error) {
      const unknown = error instanceof VisavisError && error.code === 'unknown_call'
      const rings = Date.now() - at < push.ringMs
      return { ...push, state: unknown ? 'ended' : rings ? 'ringing' : 'missed' }
    }
  }

  #report({ call, key = '' }: Pick<PushMessage, 'call' | 'key'>, act: PushedAct) {
    return postPushed(this.#server, { call, key, act }, askMs)
  }

  async #show({ call, state, from, video, key, waiting }: PushMessage): Promise<void> {
    const rings = state === 'ringing'
    // Told meanwhile that it is over.
    const over =
      rings && (await this.#shown(call)).some(({ data }) => readCall(data)?.state !== state)
    if (over) return await this.#showBriefly(undefined) // that one stands
    const { title, body } = this.#say[state](from.name, video)
    await this.#worker.registration.showNotification(title, {
      body,
      ...this.#icon,
      tag: call,
      data: { call, state, from, video, key } satisfies ShownCall,
      // Who is in another call is not rung aloud.
      ...(rings && !waiting ? { renotify: true, vibrate: vibration } : { silent: true }),
      ...(rings && {
        requireInteraction: true,
        actions: [{ action: 'decline', title: this.#say.decline }],
      }),
    })
  }

  #shown(call: string): Promise<readonly ShownNotification[]> {
    return this.#worker.registration.getNotifications({ tag: call })
  }

  async #pages(): Promise<readonly WorkerWindow[]> {
    const all = await this.#worker.clients.matchAll({ type: 'window', includeUncontrolled: true })
    return all.filter(({ url }) => url.startsWith(this.#page))
  }

  /** Focuses the page that was used last, or opens a new one. */
  async #openPage(): Promise<WorkerWindow | null> {
    const [page] = await this.#pages()
    try {
      if (page) return await page.focus()
    } catch {
      // It has just gone.
    }
    return await this.#worker.clients.openWindow(this.#page)
  }
}

/** What a notification keeps of its call. */
type ShownCall = Pick<PushMessage, 'call' | 'state' | 'from' | 'video' | 'key'>

function readCall(data: unknown): ShownCall | undefined {
  try {
    const m = fields<keyof ShownCall>(data)
    return {
      call: text(m.call),
      state: oneOf(m.state, pushStates),
      from: person(m.from),
      video: flag(m.video),
      key: optional(m.key, text),
    }
  } catch (error) {
    // Another notification of the page's.
    if (error instanceof Malformed) return undefined
    throw error
  }
}
