import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { ann, bob, FakeSocket, fakeBrowser, fakeStorage, page, settle, welcome } from './fakes.ts'
import { Visavis } from './visavis.ts'

beforeEach(() => {
  fakeBrowser()
})

afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
})

function answers(status: number, body: unknown) {
  const requests: [string, RequestInit][] = []
  vi.stubGlobal('fetch', async (url: URL, init: RequestInit) => {
    requests.push([url.href, init])
    return new Response(typeof body === 'string' ? body : JSON.stringify(body), { status })
  })
  return requests
}

test('connect, who is here, and who comes and goes', async () => {
  const visavis = new Visavis({ url: 'https://server/some/page?x#y', storage: null })
  const told: string[][] = []
  visavis.on('users', (users) => told.push(users.map(({ name }) => name)))
  const connected = visavis.connect({ name: 'Ann' })
  expect(visavis.state).toBe('connecting')
  expect(FakeSocket.last.url).toBe('wss://server/v1/signal')
  FakeSocket.last.open()
  expect(FakeSocket.last.take()).toMatchObject([{ type: 'hello', name: 'Ann' }])
  FakeSocket.last.says(welcome())
  expect(await connected).toEqual(ann)
  expect(await visavis.connect()).toEqual(ann)

  const presence = (users: object[], more: object = {}) =>
    FakeSocket.last.says({ type: 'presence', at: 'e.2', users, ...more })
  presence([{ id: 'uab', name: 'Abe', presence: 'online' }])
  presence([
    { ...bob, presence: 'busy' },
    { ...ann, presence: 'busy' },
  ])
  presence([{ ...ann, presence: 'online' }])
  presence([{ id: 'ubo', name: '', presence: 'offline' }])
  presence([bob], { all: true })
  expect(told).toEqual([['Bob'], ['Abe', 'Bob'], ['Abe', 'Bob'], ['Abe'], ['Bob']])
  expect(visavis.user?.presence).toBe('online')

  visavis.close()
  expect(visavis).toMatchObject({ state: 'idle', user: undefined, users: [] })
})

test('a resumed session keeps who is here', async () => {
  const visavis = new Visavis({ url: 'https://server', name: 'Ann', storage: null })
  visavis.connect()
  FakeSocket.last.open()
  FakeSocket.last.says(welcome())
  FakeSocket.last.closes(1006)
  await vi.advanceTimersByTimeAsync(500)
  FakeSocket.last.open()
  FakeSocket.last.says(welcome({ resumed: true, users: undefined, partial: true }))
  expect(visavis.users).toEqual([bob])
})

test('after a lost connection only what changed is asked for', async () => {
  const visavis = new Visavis({ url: 'https://server', name: 'Ann', storage: null })
  const abe = { id: 'uab', name: 'Abe', presence: 'online' }
  const lose = async () => {
    FakeSocket.last.closes(1006)
    await vi.advanceTimersByTimeAsync(500)
    FakeSocket.last.open()
    return FakeSocket.last.take()
  }
  visavis.connect()
  FakeSocket.last.open()
  FakeSocket.last.says(welcome({ presenceAt: 'e.1' }))
  FakeSocket.last.says({ type: 'presence', at: 'e.2', users: [abe] })
  expect(await lose()).toMatchObject([{ type: 'hello', presenceAt: 'e.2' }])

  // Whether or not the session goes on.
  const gone = { ...bob, presence: 'offline' }
  FakeSocket.last.says(welcome({ users: [gone], partial: true, presenceAt: 'e.3' }))
  expect(visavis.users).toEqual([abe])
  expect(await lose()).toMatchObject([{ type: 'hello', presenceAt: 'e.3' }])

  // A server that started anew has another list.
  FakeSocket.last.says(welcome({ users: [bob], presenceAt: 'f.1' }))
  expect(visavis.users).toEqual([bob])

  // Who leaves forgets the list.
  visavis.close()
  visavis.connect()
  FakeSocket.last.open()
  const [hello] = FakeSocket.last.take()
  expect(hello).not.toHaveProperty('presenceAt')
})

test('a page without a list asks for no presence', () => {
  const visavis = new Visavis({
    url: 'https://server',
    name: 'Ann',
    storage: null,
    presence: false,
  })
  visavis.connect()
  FakeSocket.last.open()
  expect(FakeSocket.last.take()).toMatchObject([{ type: 'hello', presence: false }])
})

test('connect rejects when refused, and waits when the server is away', async () => {
  const visavis = new Visavis({ url: 'https://server', name: 'Ann', storage: null })
  const connected = visavis.connect()
  FakeSocket.last.closes(1006)
  await vi.advanceTimersByTimeAsync(500)
  FakeSocket.last.open()
  FakeSocket.last.says({ type: 'error', code: 'name_taken', message: 'taken' })
  const refused = expect(connected).rejects.toMatchObject({ code: 'name_taken', message: 'taken' })
  FakeSocket.last.closes(4504)
  await refused
  expect(visavis.state).toBe('refused')
})

test('the token outlives the page, for this server only', async () => {
  const kept = fakeStorage()
  const first = new Visavis({ url: 'https://server', name: 'Ann', storage: kept })
  first.connect()
  FakeSocket.last.open()
  FakeSocket.last.says(welcome({ token: 'secret' }))

  new Visavis({ url: 'https://server', storage: kept }).connect()
  FakeSocket.last.open()
  expect(FakeSocket.last.take()).toMatchObject([{ token: 'secret' }])

  new Visavis({ url: 'https://other', name: 'Ann', storage: kept }).connect()
  FakeSocket.last.open()
  expect(FakeSocket.last.take()[0]).not.toHaveProperty('token')
})

test('a refused token is forgotten', async () => {
  const kept = fakeStorage()
  const visavis = new Visavis({ url: 'https://server', token: 'stale', storage: kept })
  const connected = visavis.connect()
  FakeSocket.last.open()
  FakeSocket.last.says({ type: 'error', code: 'unauthorized', message: 'no' })
  const refused = expect(connected).rejects.toMatchObject({ code: 'unauthorized' })
  FakeSocket.last.closes(4504)
  await refused
  expect(kept.length).toBe(0)
})

/** The last hello is refused: the server says why, and closes. */
async function refuses(code: string, closeCode = 4504): Promise<void> {
  FakeSocket.last.open()
  FakeSocket.last.says({ type: 'error', code, message: 'no' })
  FakeSocket.last.closes(closeCode)
  await settle()
}

test('who is not known by their token comes in by their name, and sees no error', async () => {
  const kept = fakeStorage()
  kept.setItem('visavis.token https://server', 'g2.old')
  const visavis = new Visavis({ url: 'https://server', storage: kept })
  const states: string[] = []
  visavis.on('state', (change) => states.push(change.new))
  const connected = visavis.connect({ name: 'Ann' })
  await refuses('unauthorized')
  FakeSocket.last.open()
  const [hello] = FakeSocket.last.take()
  expect(hello).toMatchObject({ name: 'Ann' })
  expect(hello).not.toHaveProperty('token')
  FakeSocket.last.says(welcome({ token: 'g2.new' }))
  expect(await connected).toEqual(ann)
  expect(states).toEqual(['connecting', 'online'])
  expect(kept.getItem('visavis.token https://server')).toBe('g2.new')
})

test.each(['unauthorized', 'name_taken'])(
  'of two tabs that come in anew the second is the same person: %s',
  async (code) => {
    const kept = fakeStorage()
    kept.setItem('visavis.token https://server', 'g2.old')
    const visavis = new Visavis({ url: 'https://server', storage: kept })
    const connected = visavis.connect({ name: 'Ann' })
    if (code === 'name_taken') await refuses('unauthorized')
    // The other tab has had its welcome.
    kept.setItem('visavis.token https://server', 'g2.new')
    await refuses(code)
    FakeSocket.last.open()
    expect(FakeSocket.last.take()).toMatchObject([{ name: 'Ann', token: 'g2.new' }])
    FakeSocket.last.says(welcome({ token: 'g2.new' }))
    expect(await connected).toEqual(ann)
  },
)

test('a name that is taken stays refused, whatever is kept', async () => {
  const kept = fakeStorage()
  kept.setItem('visavis.token https://server', 'g2.mine')
  const visavis = new Visavis({ url: 'https://server', storage: kept })
  const refused = expect(visavis.connect({ name: 'Ann' })).rejects.toMatchObject({
    code: 'name_taken',
  })
  await refuses('name_taken')
  await refused
  expect(kept.getItem('visavis.token https://server')).toBe('g2.mine')
})

test('a server that cannot tell whose token it is is asked again, with the same token', async () => {
  vi.useFakeTimers()
  const kept = fakeStorage()
  kept.setItem('visavis.token https://server', 'g2.mine')
  const visavis = new Visavis({ url: 'https://server', storage: kept })
  const connected = visavis.connect({ name: 'Ann' })
  for (const closeCode of [4004, 1006]) {
    FakeSocket.last.open()
    FakeSocket.last.take()
    FakeSocket.last.says({ type: 'error', code: 'unavailable', message: 'later' })
    FakeSocket.last.closes(closeCode)
    expect(visavis.state).toBe('offline')
    answers(200, {})
    await vi.advanceTimersByTimeAsync(1000)
  }
  FakeSocket.last.open()
  expect(FakeSocket.last.take()).toMatchObject([{ name: 'Ann', token: 'g2.mine' }])
  FakeSocket.last.says(welcome({ token: 'g2.mine' }))
  expect(await connected).toEqual(ann)
})

test.each([
  ['a page that is here', 4506],
  ['a page that comes back', 4504],
])('signed out everywhere: %s rests, and is nobody', async (_, closeCode) => {
  const kept = fakeStorage()
  const visavis = new Visavis({ url: 'https://server', storage: kept })
  const errors: unknown[] = []
  visavis.on('state', (change) => errors.push(change.error?.code))
  const connected = visavis.connect({ name: 'Ann' })
  FakeSocket.last.open()
  if (closeCode === 4506) {
    FakeSocket.last.says(welcome({ token: 'g2.mine' }))
    await connected
    FakeSocket.last.closes(closeCode)
  } else {
    kept.setItem('visavis.token https://server', 'g2.mine')
    const refused = expect(connected).rejects.toMatchObject({ code: 'signed_out' })
    await refuses('signed_out', closeCode)
    await refused
  }
  expect(visavis.state).toBe('refused')
  expect(errors.at(-1)).toBe('signed_out')
  expect(kept.length).toBe(0)
  const sockets = FakeSocket.all.length
  await settle()
  expect(FakeSocket.all).toHaveLength(sockets)
  visavis.connect({ name: 'Ann' }).catch(() => undefined)
  FakeSocket.last.open()
  expect(FakeSocket.last.take()[0]).not.toHaveProperty('token')
})

test('signing out everywhere leaves; where the server cannot do it, all stays as it was', async () => {
  const kept = fakeStorage()
  const visavis = new Visavis({ url: 'https://server', storage: kept })
  await expect(visavis.signOut()).rejects.toMatchObject({ code: 'offline' })
  const connected = visavis.connect({ name: 'Ann' })
  FakeSocket.last.open()
  FakeSocket.last.says(welcome({ token: 'g2.mine' }))
  await connected
  answers(503, { code: 'unavailable', message: 'later' })
  await expect(visavis.signOut()).rejects.toMatchObject({ code: 'unavailable' })
  expect(visavis.state).toBe('online')
  expect(kept.getItem('visavis.token https://server')).toBe('g2.mine')

  const requests: [string, string | undefined, unknown][] = []
  vi.stubGlobal('fetch', async (url: URL, init: RequestInit) => {
    requests.push([url.href, init.method, init.headers])
    return new Response(null, { status: 204 })
  })
  await visavis.signOut()
  expect(requests).toEqual([
    ['https://server/v1/logins', 'DELETE', { Authorization: 'Bearer g2.mine' }],
  ])
  expect(visavis.state).toBe('idle')
  expect(kept.length).toBe(0)
})

test('leaving hangs up first', async () => {
  const visavis = new Visavis({ url: 'https://server', name: 'Ann', storage: null })
  visavis.connect()
  FakeSocket.last.open()
  FakeSocket.last.says(welcome())
  const call = visavis.ring('ubo')
  const socket = FakeSocket.last
  visavis.close()
  expect(call.end?.reason).toBe('canceled')
  expect(socket.closedWith).toBe(1000)
})

test('a listener that throws disturbs nobody', async () => {
  const visavis = new Visavis({ url: 'https://server', name: 'Ann', storage: null })
  const thrown: unknown[] = []
  vi.stubGlobal('queueMicrotask', (task: () => void) => {
    try {
      task()
    } catch (error) {
      thrown.push(error)
    }
  })
  visavis.on('state', () => {
    throw new Error('mine')
  })
  const seen: string[] = []
  const off = visavis.on('state', (change) => seen.push(change.new))
  visavis.connect().catch(() => undefined)
  off()
  visavis.close()
  expect(seen).toEqual(['connecting'])
  expect(thrown).toHaveLength(2)
})

test('place needs no connection', async () => {
  const requests = answers(200, { name: 'Here', access: 'open' })
  const visavis = new Visavis({ url: 'https://server', storage: null })
  expect(await visavis.place()).toEqual({ name: 'Here', access: 'open' })
  expect(requests[0]?.[0]).toBe('https://server/v1/place')
})

test('calls', async () => {
  const record = {
    id: 'n1-c',
    peer: { id: 'ubo', name: 'Bob' },
    direction: 'in',
    video: true,
    rungAt: '2026-11-22T10:00:00Z',
    endedAt: '2026-11-22T10:01:00Z',
    reason: 'unanswered',
    durationMs: 0,
    missed: true,
  }
  const now = '2026-11-22T10:02:00Z'
  const requests = answers(200, { calls: [record], now })
  const visavis = new Visavis({ url: 'https://server', token: 't1', storage: null })
  expect(await visavis.calls({ limit: 10, before: 'n1-b' })).toEqual({
    calls: [
      {
        ...record,
        rungAt: new Date(record.rungAt),
        acceptedAt: undefined,
        endedAt: new Date(record.endedAt),
      },
    ],
    incomplete: false,
    at: new Date(now),
  })
  expect(requests[0]?.[0]).toBe('https://server/v1/calls?before=n1-b&limit=10')
  expect(requests[0]?.[1].headers).toEqual({ Authorization: 'Bearer t1' })
})

test('calls that may be missing are told', async () => {
  answers(200, { calls: [], incomplete: true, now: '2026-11-22T10:02:00Z' })
  const visavis = new Visavis({ url: 'https://server', token: 't1', storage: null })
  expect(await visavis.calls()).toMatchObject({ calls: [], incomplete: true })
})

test.each([
  ['a listed error', 401, { code: 'unauthorized', message: 'no' }, 'unauthorized'],
  ['a proxy in between', 502, '<html>', 'internal'],
  ['an answer that makes no sense', 200, { name: 7 }, 'internal'],
])('%s', async (_, status, body, code) => {
  answers(status, body)
  const visavis = new Visavis({ url: 'https://server', storage: null })
  await expect(visavis.place()).rejects.toMatchObject({ name: 'VisavisError', code })
})

test('a server that cannot be reached', async () => {
  vi.stubGlobal('fetch', async () => {
    throw new TypeError('network')
  })
  const visavis = new Visavis({ url: 'https://server', storage: null })
  await expect(visavis.place()).rejects.toMatchObject({ code: 'offline' })
  await settle()
})

/** Ann, online. */
async function online(options: object = {}, more: object = {}) {
  const visavis = new Visavis({ url: 'https://server', name: 'Ann', storage: null, ...options })
  visavis.connect()
  FakeSocket.last.open()
  FakeSocket.last.says(welcome(more))
  await settle()
  return visavis
}

test.each([
  ['the network is back', 'online'],
  ['the network is back while a socket stands that may be dead', undefined],
])('%s: hello at once, in the same session', async (_, away) => {
  const visavis = await online()
  const old = FakeSocket.last
  if (away) old.closes(1006)
  page.dispatchEvent(new Event('online'))
  expect(FakeSocket.all).toHaveLength(2)
  FakeSocket.last.open()
  expect(FakeSocket.last.take()).toMatchObject([{ type: 'hello', resume: 'r1', received: 0 }])
  FakeSocket.last.says(welcome({ resumed: true }))
  expect(visavis.state).toBe('online')
  expect(old.closedWith).toBe(away ? undefined : 4002)
  visavis.close()
  page.dispatchEvent(new Event('online'))
  expect(FakeSocket.all).toHaveLength(2)
})

test('rename says hello again in the same session, and nobody goes offline', async () => {
  const visavis = await online()
  const states: string[] = []
  visavis.on('state', (change) => states.push(change.new))
  const renamed = visavis.rename('Anna')
  FakeSocket.last.open()
  expect(FakeSocket.last.take()).toMatchObject([{ name: 'Anna', token: 't1', resume: 'r1' }])
  FakeSocket.last.says(welcome({ resumed: true, user: { ...ann, name: 'Anna' } }))
  expect((await renamed).name).toBe('Anna')
  expect(states).toEqual([])
})

test('a name that is taken leaves all as it was', async () => {
  const visavis = await online()
  const refused = expect(visavis.rename('Bob')).rejects.toMatchObject({ code: 'name_taken' })
  FakeSocket.last.open()
  FakeSocket.last.says({ type: 'error', code: 'name_taken', message: 'taken' })
  FakeSocket.last.closes(4504)
  await refused
  FakeSocket.last.open()
  expect(FakeSocket.last.take()).toMatchObject([{ name: 'Ann', resume: 'r1' }])
  FakeSocket.last.says(welcome({ resumed: true }))
  expect(visavis).toMatchObject({ state: 'online', user: { name: 'Ann' } })
})

test('what I prefer is said, kept, and said again', async () => {
  const kept = fakeStorage()
  const visavis = await online({ storage: kept })
  FakeSocket.last.take()
  expect(visavis.prefers).toEqual({ whenBusy: 'waiting', doNotDisturb: false })
  visavis.prefer({ whenBusy: 'busy' })
  visavis.prefer({ doNotDisturb: true })
  expect(FakeSocket.last.take()).toMatchObject([
    { type: 'prefer', whenBusy: 'busy', doNotDisturb: false },
    { type: 'prefer', whenBusy: 'busy', doNotDisturb: true },
  ])
  new Visavis({ url: 'https://server', storage: kept }).connect()
  FakeSocket.last.open()
  expect(FakeSocket.last.take()).toMatchObject([{ whenBusy: 'busy', doNotDisturb: true }])
})

test('who hides their addresses says so to the server', () => {
  new Visavis({ url: 'https://server', name: 'Ann', iceTransportPolicy: 'relay' }).connect()
  FakeSocket.last.open()
  expect(FakeSocket.last.take()).toMatchObject([{ name: 'Ann', alwaysRelay: true }])
})

test('forgetting: I come back as another', async () => {
  const kept = fakeStorage()
  const visavis = await online({ storage: kept })
  visavis.close({ forget: true })
  expect(kept.length).toBe(0)
  visavis.connect({ name: 'Eve' })
  FakeSocket.last.open()
  const [hello] = FakeSocket.last.take()
  expect(hello).toMatchObject({ name: 'Eve' })
  expect(hello).not.toHaveProperty('token')
})

test('leaving while connecting rejects', async () => {
  const visavis = new Visavis({ url: 'https://server', name: 'Ann', storage: null })
  const refused = expect(visavis.connect()).rejects.toMatchObject({ code: 'offline' })
  visavis.close()
  await refused
})

test.each([
  ['that keeps nothing leaves', { storage: null }, 1000],
  ['whose storage is full leaves', { storage: full() }, 1000],
  ['that is known again stays', {}, undefined],
  ['whose person the operator names stays', { storage: null, token: 't7' }, undefined],
])('a page %s as it goes', async (_, options, code) => {
  const beacons: string[] = []
  Object.assign(navigator, { sendBeacon: (url: URL) => beacons.push(url.href) })
  const visavis = new Visavis({ url: 'https://server', storage: fakeStorage(), ...options })
  const connected = visavis.connect({ name: 'Ann' })
  FakeSocket.last.open()
  FakeSocket.last.says(welcome())
  expect((await connected).name).toBe('Ann')
  page.dispatchEvent(Object.assign(new Event('pagehide'), { persisted: true }))
  expect(FakeSocket.last.closedWith).toBeUndefined()
  page.dispatchEvent(new Event('pagehide'))
  expect(FakeSocket.last.closedWith).toBe(code)
  expect(beacons).toEqual(code === undefined ? [] : ['https://server/v1/leave'])
})

/** A storage that takes nothing more. */
function full(): Storage {
  return Object.assign(fakeStorage(), {
    setItem: () => {
      throw new DOMException('full', 'QuotaExceededError')
    },
  })
}

test('a browser without WebRTC is refused before anybody could call it', async () => {
  vi.stubGlobal('RTCPeerConnection', undefined)
  const visavis = new Visavis({ url: 'https://server', storage: null })
  await expect(visavis.connect({ name: 'Ann' })).rejects.toMatchObject({ code: 'unsupported' })
  expect(FakeSocket.all).toEqual([])
})

test('always relay is kept, told to the server at once, and holds for the next page', async () => {
  const storage = fakeStorage()
  const visavis = new Visavis({ url: 'https://server', name: 'Ann', storage })
  visavis.connect()
  FakeSocket.last.open()
  expect(FakeSocket.last.take()).not.toMatchObject([{ alwaysRelay: true }])
  FakeSocket.last.says(welcome())
  visavis.alwaysRelay = true
  FakeSocket.last.open()
  expect(FakeSocket.last.take()).toMatchObject([{ type: 'hello', alwaysRelay: true, resume: 'r1' }])
  const later = new Visavis({ url: 'https://server', storage })
  expect(later.alwaysRelay).toBe(true)
  later.close({ forget: true })
  expect(new Visavis({ url: 'https://server', storage }).alwaysRelay).toBe(false)
})
