import { readFileSync } from 'node:fs'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Answered } from './push.ts'
import { type PushState, pushStates } from './wire.ts'
import {
  receivePushes,
  type Shown,
  type WorkerEvents,
  type WorkerScope,
  type WorkerWindow,
} from './worker.ts'

const golden = (name: string) =>
  readFileSync(new URL(`../../../protocol/testdata/${name}`, import.meta.url), 'utf8')

/** A window of the browser. */
class FakeWindow implements WorkerWindow {
  readonly url: string
  readonly visibilityState: DocumentVisibilityState
  readonly told: Answered[] = []
  focused = 0
  closed = false

  constructor(url: string, visibilityState: DocumentVisibilityState = 'hidden') {
    this.url = url
    this.visibilityState = visibilityState
  }

  async focus(): Promise<this> {
    if (this.closed) throw new DOMException('gone', 'InvalidAccessError')
    this.focused++
    return this
  }

  postMessage(message: Answered): void {
    this.told.push(message)
  }
}

interface FakeNotification extends Shown {
  readonly title: string
  close(): void
}

/** What a browser gives a worker: windows, notifications, the network. */
class FakeScope implements WorkerScope {
  readonly location = { href: 'https://server/worker.js' }
  readonly windows: FakeWindow[] = []
  readonly notifications = new Map<string, FakeNotification>()
  readonly opened: string[] = []
  /** What the server was asked, and how it answers: by a state, a refusal, or not at all. */
  readonly asked: unknown[] = []
  server: PushState | 'unknown_call' | 'full' | 'away' = 'ringing'
  skipped = false
  shows = 0
  readonly #listeners = new Map<string, (event: never) => void>()

  readonly registration = {
    scope: 'https://server/',
    showNotification: async (title: string, options: Shown) => {
      const tag = options.tag ?? ''
      this.shows++
      const close = () => this.notifications.delete(tag)
      this.notifications.set(tag, { title, close, ...options })
    },
    getNotifications: async ({ tag }: { tag: string }) => {
      const shown = this.notifications.get(tag)
      return shown ? [{ data: shown.data, close: shown.close }] : []
    },
  }

  readonly clients = {
    matchAll: async () => this.windows.filter(({ closed }) => !closed),
    openWindow: async (url: string) => {
      this.opened.push(url)
      const window = new FakeWindow(url)
      this.windows.unshift(window)
      return window
    },
  }

  async skipWaiting(): Promise<void> {
    this.skipped = true
  }

  addEventListener(type: string, listener: (event: never) => void): void {
    this.#listeners.set(type, listener)
  }

  async fetch(url: URL, { body, method }: RequestInit): Promise<Response> {
    this.asked.push([method, url.href, JSON.parse(String(body))])
    const { server } = this
    if (server === 'away') throw new TypeError('away')
    if (server === 'unknown_call')
      return Response.json({ code: server, message: 'x' }, { status: 404 })
    if (server === 'full') return Response.json({ code: server, message: 'x' }, { status: 503 })
    return Response.json({ state: server, ringMs: server === 'ringing' ? 41_000 : undefined })
  }

  /** Has the worker take an event, until it is done with it. */
  async happens<E extends keyof WorkerEvents>(type: E, event: WorkerEvents[E]): Promise<void> {
    const done: Promise<unknown>[] = []
    const waitUntil = (promise: Promise<unknown>) => done.push(promise)
    this.#listeners.get(type)?.({ ...event, waitUntil } as never)
    await Promise.all(done)
  }

  async pushed(name: string): Promise<void> {
    await this.#push({ text: () => golden(name) })
  }

  /** Safari takes the subscription of a worker that lets a push pass without a notification. */
  async #push(data: WorkerEvents['push']['data']): Promise<void> {
    const before = this.shows
    await this.happens('push', { data })
    expect(this.shows, 'a push that shows nothing').toBeGreaterThan(before)
  }

  async pushedText(text: string | undefined): Promise<void> {
    await this.#push(text === undefined ? null : { text: () => text })
  }

  get shown(): FakeNotification | undefined {
    return this.notifications.get('n1-x2kq')
  }

  /** The person clicks the notification, or one of its buttons. */
  async click(action = ''): Promise<void> {
    const notification = this.shown
    if (!notification) throw new Error('there is no notification')
    const { data, close } = notification
    await this.happens('notificationclick', { action, notification: { data, close } })
  }
}

const words = (state: string) => (from: string, video: boolean) => ({
  title: `${from} ${state}`,
  body: video ? 'video' : 'voice',
})

let scope: FakeScope

beforeEach(() => {
  scope = new FakeScope()
  vi.stubGlobal('fetch', (url: URL, init: RequestInit) => scope.fetch(url, init))
  start()
})

afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
})

function start(more: { url?: string; page?: string } = {}): void {
  const [ringing, elsewhere, missed, ended] = pushStates.map(words)
  if (!ringing || !elsewhere || !missed || !ended) throw new Error('unreachable')
  const say = { ringing, elsewhere, missed, ended, decline: 'Decline' }
  receivePushes({ say, icon: '/icon.png', ...more }, scope)
}

const ringingAsked = [
  'POST',
  'https://server/v1/pushed',
  { call: 'n1-x2kq', key: '3q2-7w', act: 'ringing' },
]
const answer = { answer: 'n1-x2kq', from: { id: 'uan4', name: 'Ann' }, video: true }

test('a call rings once the server has said that it still does', async () => {
  await scope.pushed('push.json')
  expect(scope.asked).toEqual([ringingAsked])
  expect(scope.shown).toMatchObject({
    title: 'Ann ringing',
    body: 'video',
    icon: '/icon.png',
    tag: 'n1-x2kq',
    requireInteraction: true,
    renotify: true,
    actions: [{ action: 'decline', title: 'Decline' }],
    data: { call: 'n1-x2kq', key: '3q2-7w', from: { id: 'uan4', name: 'Ann' }, video: true },
  })
  expect(scope.shown).not.toHaveProperty('silent')
})

test('beside another call of mine it is shown, and makes no noise', async () => {
  await scope.pushed('push-waiting.json')
  expect(scope.asked).toEqual([ringingAsked])
  expect(scope.shown).toMatchObject({
    title: 'Ann ringing',
    silent: true,
    requireInteraction: true,
    actions: [{ action: 'decline', title: 'Decline' }],
  })
  // The two together are an error (WHATWG Notifications, silent and vibrate).
  expect(scope.shown).not.toHaveProperty('vibrate')
})

test.each(['elsewhere', 'missed', 'ended'] as const)(
  'a call that the server calls %s by then makes no noise',
  async (state) => {
    scope.server = state
    await scope.pushed('push.json')
    expect(scope.shown).toMatchObject({ title: `Ann ${state}`, silent: true })
  },
)

test('a call that the server does not know is over', async () => {
  scope.server = 'unknown_call'
  await scope.pushed('push.json')
  expect(scope.shown).toMatchObject({ title: 'Ann ended', silent: true })
})

test.each(['away', 'full'] as const)(
  'a server that is %s keeps no call from ringing',
  async (server) => {
    scope.server = server
    await scope.pushed('push.json')
    expect(scope.shown).toMatchObject({ title: 'Ann ringing', requireInteraction: true })
  },
)

test('a server that does not answer is not waited for', async () => {
  vi.spyOn(AbortSignal, 'timeout').mockImplementation((ms) => {
    expect(ms).toBe(4000)
    return AbortSignal.abort()
  })
  vi.stubGlobal('fetch', async (_: URL, { signal }: RequestInit) => signal?.throwIfAborted())
  await scope.pushed('push.json')
  expect(scope.shown).toMatchObject({ title: 'Ann ringing' })
})

test('nobody rings whose time was over before anybody could tell', async () => {
  vi.useFakeTimers({ toFake: ['Date'] })
  vi.stubGlobal('fetch', async () => {
    vi.setSystemTime(Date.now() + 60_000)
    throw new TypeError('away')
  })
  await scope.pushed('push.json')
  expect(scope.shown).toMatchObject({ title: 'Ann missed', silent: true })
})

test.each(['elsewhere', 'missed', 'ended'])('%s replaces the ring', async (state) => {
  await scope.pushed('push.json')
  await scope.pushed(`push-${state}.json`)
  expect(scope.notifications.size).toBe(1)
  expect(scope.shown).toMatchObject({ title: `Ann ${state}`, silent: true })
  expect(scope.shown).not.toHaveProperty('requireInteraction')
  expect(scope.asked).toHaveLength(1)
})

test('a ring that the server answered before the call ended does not come after its end', async () => {
  const fetch = scope.fetch.bind(scope)
  vi.stubGlobal('fetch', async (url: URL, init: RequestInit) => {
    const rings = await fetch(url, init)
    await scope.pushed('push-missed.json')
    return rings
  })
  await scope.pushed('push.json')
  expect(scope.shown?.title).toBe('Ann missed')
})

test('where a page of ours can be seen there is nothing to see or hear', async () => {
  await scope.pushed('push.json')
  scope.windows.push(new FakeWindow('https://server/', 'visible'))
  for (const name of ['push-missed.json', 'push.json', 'push-elsewhere.json', 'push-ended.json']) {
    await scope.pushed(name)
    expect(scope.notifications.size).toBe(0)
  }
  // The page says itself that it rings.
  expect(scope.asked).toEqual([ringingAsked])
})

test('a hidden page, or one of another’s, is none that can be seen', async () => {
  scope.windows.push(new FakeWindow('https://server/'), new FakeWindow('https://other/', 'visible'))
  await scope.pushed('push.json')
  expect(scope.shown?.title).toBe('Ann ringing')
})

test('a click answers in the page that there is', async () => {
  const other = new FakeWindow('https://other/')
  const page = new FakeWindow('https://server/')
  scope.windows.push(other, page, new FakeWindow('https://server/'))
  await scope.pushed('push.json')
  await scope.click()
  expect([page.focused, page.told]).toEqual([1, [answer]])
  expect([scope.opened, other.told, scope.shown]).toEqual([[], [], undefined])
})

test('a click answers in a new page, by no address', async () => {
  const page = new FakeWindow('https://server/')
  scope.windows.push(page)
  await scope.pushed('push.json')
  vi.spyOn(page, 'focus').mockRejectedValue(new DOMException('gone', 'InvalidAccessError'))
  await scope.click()
  expect(scope.opened).toEqual(['https://server/'])
  expect([page.told, scope.windows[0]?.told]).toEqual([[], [answer]])
})

test.each(['elsewhere', 'missed', 'ended'])(
  'a click on %s opens the page, no more',
  async (state) => {
    await scope.pushed(`push-${state}.json`)
    await scope.click()
    expect(scope.opened).toEqual(['https://server/'])
    expect(scope.windows[0]?.told).toEqual([])
    expect(scope.shown).toBeUndefined()
  },
)

test('it is declined without a page', async () => {
  await scope.pushed('push.json')
  await scope.click('decline')
  expect(scope.asked[1]).toEqual([
    'POST',
    'https://server/v1/pushed',
    { call: 'n1-x2kq', key: '3q2-7w', act: 'decline' },
  ])
  await scope.pushed('push-elsewhere.json')
  expect([scope.opened, scope.shown]).toEqual([[], undefined])
})

test('declining a call while the server is away closes it here', async () => {
  await scope.pushed('push.json')
  scope.server = 'away'
  await scope.click('decline')
  expect(scope.shown).toBeUndefined()
})

test('the page and the server may be elsewhere', async () => {
  start({ url: 'https://calls', page: '/support/' })
  const shop = new FakeWindow('https://server/shop/', 'visible')
  scope.windows.push(shop)
  await scope.pushed('push.json')
  expect(scope.asked).toMatchObject([['POST', 'https://calls/v1/pushed', {}]])
  await scope.click()
  expect(scope.opened).toEqual(['https://server/support/'])
})

test('what is nothing of ours leaves nothing behind', async () => {
  await scope.pushedText(undefined)
  await scope.pushedText('news')
  expect(scope.notifications.size).toBe(0)
  const close = vi.fn()
  for (const data of [undefined, { call: 7 }]) {
    await scope.happens('notificationclick', { action: '', notification: { data, close } })
  }
  expect(close).not.toHaveBeenCalled()
  expect(scope.opened).toEqual([])
})

test('a new worker takes the place of the old one at once', async () => {
  await scope.happens('install', {})
  expect(scope.skipped).toBe(true)
})
