import { createHash } from 'node:crypto'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { FakeSocket, fakeBrowser, fakeStorage, settle, welcome } from './fakes.ts'
import type { Answered, PushReadiness } from './push.ts'
import type { Options } from './visavis.ts'
import { Visavis } from './visavis.ts'

/** A subscription at a push service that counts its endpoints. */
class FakeSubscription {
  readonly endpoint: string
  readonly options: { applicationServerKey: ArrayBuffer }
  readonly #device: FakeDevice

  constructor(device: FakeDevice, key: string) {
    this.#device = device
    this.endpoint = `https://push/${++device.endpoints}`
    this.options = { applicationServerKey: Uint8Array.from(Buffer.from(key, 'base64url')).buffer }
  }

  async unsubscribe(): Promise<void> {
    if (this.#device.subscription === this) this.#device.subscription = null
  }

  toJSON() {
    return { endpoint: this.endpoint, expirationTime: null, keys: { p256dh: 'p', auth: 'a' } }
  }
}

/** A browser's workers, permission and push service, and the server's routes of push. */
class FakeDevice {
  endpoints = 0
  subscription: FakeSubscription | null = null
  /** What the person answers when they are asked, and what the browser has noted. */
  answer: NotificationPermission = 'granted'
  permission: NotificationPermission = 'default'
  asked = 0
  serviceDown = false
  readonly registered: unknown[] = []
  readonly workers = Object.assign(new EventTarget(), {
    startMessages: () => undefined,
    register: async (address: unknown) => {
      this.registered.push(address)
      const worker = Object.assign(new EventTarget(), { state: 'installing' })
      queueMicrotask(() => {
        worker.state = 'activated'
        worker.dispatchEvent(new Event('statechange'))
      })
      return { installing: worker, pushManager: this }
    },
  })

  /** The server's key; without one it has push turned off. */
  key: string | undefined = 'AQID'
  /** Whether the server can be reached. */
  down = false
  /** What comes between the server's taking a device and its answer. */
  between: () => void = () => undefined
  /** What the server was told. */
  readonly told: string[] = []

  async getSubscription() {
    return this.subscription
  }

  async subscribe({ applicationServerKey }: { applicationServerKey: string }) {
    if (this.serviceDown) throw new DOMException('no', 'AbortError')
    this.subscription = new FakeSubscription(this, applicationServerKey)
    return this.subscription
  }

  async fetch(url: URL, { method = 'GET', body, headers }: RequestInit): Promise<Response> {
    if (this.down) throw new TypeError('down')
    const token = new Headers(headers).get('Authorization')
    if (method !== 'GET') {
      const { endpoint, doNotDisturb } = JSON.parse(String(body))
      const quiet = doNotDisturb === undefined ? '' : ` ${doNotDisturb ? 'quiet' : 'loud'}`
      this.told.push(`${method} ${url.pathname} ${endpoint}${quiet} ${token}`)
      if (method === 'PUT') this.between()
      return new Response(null, { status: 204 })
    }
    if (this.key === undefined) {
      return new Response('{"code":"not_found","message":"push is off"}', { status: 404 })
    }
    return Response.json({ key: this.key })
  }

  /** The worker says this to the page. */
  says(data: unknown): void {
    this.workers.dispatchEvent(Object.assign(new Event('message'), { data }))
  }

  install(): void {
    Object.assign(navigator, { serviceWorker: this.workers })
    const device = this
    vi.stubGlobal('PushManager', class {})
    vi.stubGlobal('Notification', {
      get permission() {
        return device.permission
      },
      requestPermission: async () => {
        device.asked++
        if (device.permission === 'default') device.permission = device.answer
        return device.permission
      },
    })
    vi.stubGlobal('fetch', (url: URL, init: RequestInit) => device.fetch(url, init))
  }
}

let device: FakeDevice
let kept: Storage

beforeEach(() => {
  fakeBrowser()
  device = new FakeDevice()
  device.install()
  kept = fakeStorage()
})

afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
})

function open(more: Options = {}): { visavis: Visavis; states: PushReadiness[] } {
  const options = { url: 'https://server', name: 'Ann', storage: kept, worker: '/worker.js' }
  const visavis = new Visavis({ ...options, ...more })
  const states: PushReadiness[] = [visavis.push.state]
  visavis.push.on('state', (change) => states.push(change.new))
  return { visavis, states }
}

async function online(visavis: Visavis, more: object = {}): Promise<void> {
  visavis.connect().catch(() => undefined)
  FakeSocket.last.open()
  FakeSocket.last.says(welcome(more))
  await settle()
}

/** The connection breaks, and comes back in a session that is the same or a new one. */
async function comesBack(more: object = {}): Promise<void> {
  FakeSocket.last.closes(1006)
  await vi.advanceTimersByTimeAsync(1000)
  FakeSocket.last.open()
  FakeSocket.last.says(welcome(more))
  await settle()
}

async function turnedOn(): Promise<ReturnType<typeof open>> {
  const page = open()
  await online(page.visavis)
  await page.visavis.push.turnOn()
  device.told.splice(0)
  return page
}

test('it is turned on and off', async () => {
  const { visavis, states } = open()
  await online(visavis)
  expect(device.asked).toBe(0)
  await visavis.push.turnOn()
  expect(device.registered).toEqual(['/worker.js'])
  await visavis.push.turnOff()
  expect(device.subscription).toBeNull()
  expect(states).toEqual(['off', 'on', 'off'])
  expect(device.told).toEqual([
    'PUT /v1/push https://push/1 loud Bearer t1',
    'DELETE /v1/push https://push/1 Bearer t1',
  ])
})

test('the server hears whether this page is seen, of a device that is pushed to', async () => {
  const seen = Object.assign(new EventTarget(), { visibilityState: 'visible' })
  vi.stubGlobal('document', seen)
  const turns = (visibilityState: string) => {
    seen.visibilityState = visibilityState
    seen.dispatchEvent(new Event('visibilitychange'))
  }
  const { visavis } = open()
  await online(visavis)
  FakeSocket.last.take()
  turns('hidden')
  turns('visible')
  expect(FakeSocket.last.take()).toEqual([])
  await visavis.push.turnOn()
  await vi.waitFor(() => expect(visavis.push.device).toBeDefined())
  const device = createHash('sha256').update('https://push/1').digest('base64url')
  expect(FakeSocket.last.take()).toEqual([{ type: 'show', device, visible: true }])
  turns('hidden')
  turns('hidden')
  turns('visible')
  expect(FakeSocket.last.take()).toEqual([
    { type: 'show', device, visible: false },
    { type: 'show', device, visible: true },
  ])

  FakeSocket.last.closes(1006)
  turns('hidden')
  await vi.advanceTimersByTimeAsync(1000)
  FakeSocket.last.open()
  expect(FakeSocket.last.take()).toMatchObject([{ type: 'hello', device, visible: false }])
  turns('visible') // before the answer
  expect(FakeSocket.last.take()).toEqual([])
  FakeSocket.last.says(welcome({ resumed: true }))
  expect(FakeSocket.last.take()).toEqual([{ type: 'show', device, visible: true }])
  await visavis.push.turnOff()
  expect(FakeSocket.last.take()).toEqual([{ type: 'show', visible: false }])
})

test.each(['serviceWorker', 'PushManager', 'Notification'])(
  'a browser without %s',
  async (what) => {
    if (what === 'serviceWorker') Object.assign(navigator, { serviceWorker: undefined })
    else vi.stubGlobal(what, undefined)
    const { visavis } = open()
    expect(visavis.push.state).toBe('unsupported')
    await expect(visavis.push.turnOn()).rejects.toMatchObject({ code: 'unsupported' })
    await online(visavis)
    visavis.prefer({ doNotDisturb: true })
    visavis.close({ forget: true })
    await settle()
    expect(device.told).toEqual([])
  },
)

test('a page that names no worker', () => {
  expect(new Visavis({ url: 'https://server', storage: null }).push.state).toBe('unsupported')
})

test('the person does not allow it, and then does', async () => {
  device.answer = 'denied'
  const { visavis, states } = open()
  await online(visavis)
  await expect(visavis.push.turnOn()).rejects.toMatchObject({ code: 'not_allowed' })
  expect(states).toEqual(['off', 'blocked'])
  device.permission = 'granted'
  visavis.push.look()
  expect(visavis.push.state).toBe('off')
})

test('the person waves the question away', async () => {
  device.answer = 'default'
  const { visavis, states } = open()
  await online(visavis)
  await expect(visavis.push.turnOn()).rejects.toMatchObject({ code: 'not_allowed' })
  expect(states).toEqual(['off'])
})

test('a server that does not push', async () => {
  device.key = undefined
  const { visavis, states } = open()
  await online(visavis)
  await expect(visavis.push.turnOn()).rejects.toMatchObject({ code: 'not_found' })
  expect(states).toEqual(['off', 'unavailable'])
})

test.each([
  ['the browser’s push service is away', { serviceDown: true }, 'no_push_service'],
  ['the server is away', { down: true }, 'offline'],
])('%s', async (_, trouble, code) => {
  Object.assign(device, trouble)
  const { visavis, states } = open()
  await online(visavis)
  await expect(visavis.push.turnOn()).rejects.toMatchObject({ code })
  expect(states).toEqual(['off'])
})

test('it is on in the next page, and told again in each new session', async () => {
  await turnedOn()
  const { visavis, states } = open()
  expect(states).toEqual(['on'])
  await online(visavis)
  expect(device.told).toEqual(['PUT /v1/push https://push/1 loud Bearer t1'])
  await comesBack({ resumed: true })
  expect(device.told).toHaveLength(1)
  await comesBack()
  expect(device.told).toHaveLength(2)
  expect(device.asked).toBe(1)
})

test('what the server could not be told it is told in the next session, be it the same', async () => {
  const { visavis, states } = await turnedOn()
  device.down = true
  visavis.prefer({ doNotDisturb: true })
  await settle()
  device.down = false
  await comesBack({ resumed: true })
  expect(device.told).toEqual(['PUT /v1/push https://push/1 quiet Bearer t1'])
  expect(states).toEqual(['off', 'on'])
})

test('a server with another key is subscribed to anew', async () => {
  await turnedOn()
  device.key = 'BAUG'
  await comesBack()
  expect(device.told).toEqual(['PUT /v1/push https://push/2 loud Bearer t1'])
  expect(device.subscription?.endpoint).toBe('https://push/2')
})

test('a server that pushes no more, and then does', async () => {
  const { states } = await turnedOn()
  device.key = undefined
  await comesBack()
  device.key = 'AQID'
  await comesBack()
  expect(states).toEqual(['off', 'on', 'unavailable', 'on'])
})

test('the server is told who does not want to be disturbed', async () => {
  const { visavis } = await turnedOn()
  visavis.prefer({ doNotDisturb: true })
  visavis.prefer({ whenBusy: 'busy' })
  await settle()
  expect(device.told).toEqual(['PUT /v1/push https://push/1 quiet Bearer t1'])
})

test('who takes the permission back has it off', async () => {
  const { visavis, states } = await turnedOn()
  device.permission = 'denied'
  device.subscription = null
  await comesBack()
  expect(device.told).toEqual([])
  device.permission = 'granted'
  visavis.push.look()
  await settle()
  expect(device.told).toEqual(['PUT /v1/push https://push/2 loud Bearer t1'])
  expect(states).toEqual(['off', 'on', 'blocked', 'on'])
})

test('another tab has turned it off', async () => {
  const { visavis, states } = await turnedOn()
  await open().visavis.push.turnOff()
  device.told.splice(0)
  await comesBack()
  expect([device.told, visavis.push.state, states]).toEqual([[], 'off', ['off', 'on', 'off']])
})

test('who leaves is not rung here any more, also when the page goes at once', async () => {
  const { visavis } = await turnedOn()
  visavis.close({ forget: true })
  expect(device.told).toEqual(['DELETE /v1/push https://push/1 Bearer t1'])
  expect(device.subscription).toBeNull()
  expect(open().visavis.push.state).toBe('off')
})

test('who leaves before they are online is not rung here any more either', async () => {
  await turnedOn()
  const { visavis } = open()
  await settle()
  visavis.close({ forget: true })
  expect(device.told).toEqual(['DELETE /v1/push https://push/1 Bearer t1'])
})

test('who leaves while it is turned on is not rung', async () => {
  const { visavis } = open()
  await online(visavis)
  const turning = expect(visavis.push.turnOn()).rejects.toMatchObject({ code: 'offline' })
  visavis.close({ forget: true })
  await turning
  expect([device.told, visavis.push.state]).toEqual([[], 'off'])
})

test('who leaves while the server takes the device is not rung', async () => {
  const { visavis } = open()
  await online(visavis)
  device.between = () => visavis.close({ forget: true })
  await expect(visavis.push.turnOn()).rejects.toMatchObject({ code: 'offline' })
  expect(device.told.at(-1)).toBe('DELETE /v1/push https://push/1 Bearer t1')
  expect([device.subscription, visavis.push.state]).toEqual([null, 'off'])
})

test('who turned it on in another tab is not rung once they leave in this one', async () => {
  const { visavis } = open()
  await online(visavis)
  await turnedOn()
  visavis.push.look()
  await settle()
  device.told.splice(0)
  visavis.close({ forget: true })
  expect(device.told).toEqual(['DELETE /v1/push https://push/1 Bearer t1'])
})

test('whose token is worth nothing any more is not rung', async () => {
  await turnedOn()
  const visavis = new Visavis({ url: 'https://server', storage: kept, worker: '/worker.js' })
  await settle()
  visavis.connect().catch(() => undefined)
  FakeSocket.last.open()
  FakeSocket.last.says({ type: 'error', code: 'unauthorized', message: 'who?' })
  FakeSocket.last.closes(4504)
  await settle()
  expect(device.subscription).toBeNull()
  expect(visavis.push.state).toBe('off')
})

test('without storage it is on for the page', async () => {
  const { visavis } = open({ storage: null })
  await online(visavis)
  await visavis.push.turnOn()
  expect(visavis.push.state).toBe('on')
  await comesBack()
  expect(device.told).toHaveLength(2)
})

const carla = { id: 'uca', name: 'Carla' }
const answered: Answered = { answer: 'c1', from: carla, video: true }
const ring = (call: string) => ({ type: 'ring', call, from: carla, video: true, ringMs: 60_000 })

/** A page that comes in, and what it says of its calls. */
async function page() {
  const { visavis } = open()
  const told: string[] = []
  visavis.on('ring', ({ id }) => told.push(`ring ${id}`))
  visavis.on('call', (call) => told.push(`call ${call?.id} ${call?.state}`))
  visavis.on('answeredtoolate', ({ answer, from }) => told.push(`over ${answer} ${from.name}`))
  return { visavis, told }
}

function accepts(): unknown[] {
  return FakeSocket.last.take().filter(({ type }) => type === 'accept')
}

test('a call that was answered on its notification is accepted as soon as it rings', async () => {
  const { visavis, told } = await page()
  device.says(answered)
  await online(visavis)
  FakeSocket.last.says({ seq: 1, ...ring('c1') })
  expect(accepts()).toMatchObject([{ call: 'c1' }])
  expect(told).toEqual(['call c1 connecting'])
  await vi.advanceTimersByTimeAsync(10_000)
  expect(told).not.toContain('over c1 Carla')
})

test('a call that rings in a hidden page is accepted there, once', async () => {
  const { visavis, told } = await page()
  await online(visavis)
  FakeSocket.last.says({ seq: 1, ...ring('c1') })
  device.says(answered)
  device.says(answered)
  expect(accepts()).toMatchObject([{ call: 'c1' }])
  expect(told).toEqual(['call c1 ringing', 'ring c1'])
})

test('a call that was declined here is not accepted by a late answer', async () => {
  const { visavis } = await page()
  await online(visavis)
  FakeSocket.last.says({ seq: 1, ...ring('c1') })
  visavis.call?.decline()
  device.says(answered)
  expect(accepts()).toEqual([])
})

test('a page that was frozen asks again, for it may have missed the ring', async () => {
  const { visavis } = await page()
  await online(visavis)
  const before = FakeSocket.last
  device.says(answered)
  expect(FakeSocket.last).not.toBe(before)
  FakeSocket.last.open()
  FakeSocket.last.says(welcome({ resumed: true }))
  FakeSocket.last.says({ seq: 1, ...ring('c1') })
  expect(accepts()).toMatchObject([{ call: 'c1' }])
})

test('no other call is accepted, and one that is over is told', async () => {
  const { visavis, told } = await page()
  device.says(answered)
  await vi.advanceTimersByTimeAsync(60_000)
  await online(visavis)
  FakeSocket.last.says({ seq: 1, ...ring('c2') })
  await vi.advanceTimersByTimeAsync(10_000)
  expect(accepts()).toEqual([])
  expect(told).toEqual(['call c2 ringing', 'ring c2', 'over c1 Carla'])
  FakeSocket.last.says({ seq: 2, type: 'ended', call: 'c2', reason: 'canceled', durationMs: 0 })
  FakeSocket.last.says({ seq: 3, ...ring('c1') })
  expect(accepts()).toEqual([])
})

test('a call that waits beside another is accepted instead of it', async () => {
  const { visavis, told } = await page()
  await online(visavis)
  const first = visavis.ring('ubo')
  device.says(answered)
  FakeSocket.last.open()
  FakeSocket.last.says(welcome({ resumed: true, received: 1 }))
  FakeSocket.last.says({ seq: 1, ...ring('c1'), waiting: true })
  expect(first.state).toBe('ended')
  expect(accepts()).toMatchObject([{ call: 'c1' }])
  expect(told).toContain('ring c1')
})

test.each([null, 'c1', { answer: 7 }, { answer: 'c1', from: carla }, { ...answered, from: {} }])(
  'what else a worker says answers nothing: %j',
  async (data) => {
    const { visavis } = await page()
    await online(visavis)
    FakeSocket.last.says({ seq: 1, ...ring('c1') })
    device.says(data)
    expect(accepts()).toEqual([])
  },
)
