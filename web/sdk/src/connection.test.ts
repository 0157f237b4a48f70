import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Connection, type ConnectionChange, type SessionMessage } from './connection.ts'
import { FakeSocket, fakeBrowser, welcome } from './fakes.ts'
import type { Welcome } from './wire.ts'

const identity: { name: string | undefined; token: string | undefined } = {
  name: undefined,
  token: undefined,
}
let welcomes: Welcome[]
let messages: SessionMessage[]
let changes: ConnectionChange[]
let reached: boolean[]
let connection: Connection
let urgent: boolean
let probe: (signal: AbortSignal) => Promise<boolean>

beforeEach(() => {
  fakeBrowser()
  vi.spyOn(Math, 'random').mockReturnValue(0.5)
  identity.name = 'Ann'
  identity.token = undefined
  welcomes = []
  messages = []
  changes = []
  reached = []
  urgent = false
  probe = async () => true
  connection = new Connection('wss://server/v1/signal', {
    identity: () => identity,
    urgent: () => urgent,
    probe: (signal) => probe(signal),
    refused: ({ code }) => {
      const again = code === 'unauthorized' && identity.token !== undefined
      if (again) identity.token = undefined
      return again && identity.name !== undefined
    },
    welcomed: (message) => welcomes.push(message),
    received: (message) => messages.push(message),
    changed: (change) => changes.push(change),
    reached: (lost) => reached.push(lost),
  })
})

afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
  vi.restoreAllMocks()
})

/** Brings the last socket online and takes what was sent so far. */
function online(more: object = {}) {
  FakeSocket.last.open()
  const sent = FakeSocket.last.take()
  FakeSocket.last.says(welcome(more))
  return sent
}

const hangup = (call: string) => ({ type: 'hangup', call }) as const
const accept = (seq: number) => ({ seq, type: 'accept', call: 'c' })

test('hello, welcome, numbered messages', () => {
  connection.open()
  expect(FakeSocket.last.url).toBe('wss://server/v1/signal')
  expect(online()).toEqual([{ type: 'hello', version: 1, name: 'Ann', presence: true }])
  expect(connection.state).toBe('online')
  connection.send(hangup('a'))
  connection.send(hangup('b'))
  expect(FakeSocket.last.take()).toEqual([
    { seq: 1, type: 'hangup', call: 'a' },
    { seq: 2, type: 'hangup', call: 'b' },
  ])
  expect(changes.map((change) => change.new)).toEqual(['connecting', 'online'])
})

test('nothing can be sent without a session', () => {
  expect(connection.send(hangup('a'))).toBe(false)
  connection.open()
  expect(connection.send(hangup('a'))).toBe(false)
})

test('a resumed session misses nothing and hears nothing twice', () => {
  identity.token = 't1'
  connection.open()
  online()
  for (const call of ['a', 'b', 'c']) connection.send(hangup(call))
  FakeSocket.last.says(accept(1))
  FakeSocket.last.says(accept(2))
  FakeSocket.last.closes(1006)
  connection.send(hangup('d'))
  vi.advanceTimersByTime(10_000)
  expect(online({ resumed: true, received: 2 })).toEqual([
    {
      type: 'hello',
      version: 1,
      name: 'Ann',
      token: 't1',
      presence: true,
      resume: 'r1',
      received: 2,
    },
  ])
  expect(FakeSocket.last.take()).toEqual([
    { seq: 3, type: 'hangup', call: 'c', agoMs: 10_000 },
    { seq: 4, type: 'hangup', call: 'd', agoMs: 10_000 },
  ])
  FakeSocket.last.says(accept(2))
  FakeSocket.last.says(accept(3))
  expect(messages.map(({ seq }) => seq)).toEqual([1, 2, 3])
  connection.send(hangup('e'))
  expect(FakeSocket.last.take()).toMatchObject([{ seq: 5 }])
})

test('a session that the server has forgotten begins anew', () => {
  connection.open()
  online()
  connection.send(hangup('a'))
  FakeSocket.last.says(accept(1))
  FakeSocket.last.closes(1006)
  vi.advanceTimersByTime(10_000)
  online({ resume: 'r2' })
  expect(FakeSocket.last.take()).toEqual([])
  connection.send(hangup('b'))
  expect(FakeSocket.last.take()).toMatchObject([{ seq: 1 }])
  FakeSocket.last.says(accept(1))
  expect(messages).toHaveLength(2)
})

test('more missing than is kept begins a new session', () => {
  connection.open()
  online()
  for (let i = 0; i < 300; i++) connection.send(hangup('a'))
  FakeSocket.last.closes(1006)
  vi.advanceTimersByTime(10_000)
  online({ resumed: true, received: 40 })
  expect(welcomes).toHaveLength(1)
  FakeSocket.last.open()
  expect(FakeSocket.last.take()).toEqual([
    { type: 'hello', version: 1, name: 'Ann', presence: true },
  ])
})

test('ping is answered and acknowledges', () => {
  connection.open()
  online()
  for (const call of ['a', 'b', 'c']) connection.send(hangup(call))
  FakeSocket.last.says({ seq: 1, type: 'elsewhere', call: 'x', act: 'accepted' })
  FakeSocket.last.take()
  FakeSocket.last.says({ type: 'ping', ack: 2 })
  expect(FakeSocket.last.take()).toEqual([{ type: 'pong', ack: 1 }])
  FakeSocket.last.closes(1006)
  vi.advanceTimersByTime(10_000)
  online({ resumed: true, received: 2 })
  expect(FakeSocket.last.take()).toMatchObject([{ seq: 3 }])
})

test('two pings without a sign of life: the connection is dead, the session is not', () => {
  connection.open()
  online()
  const dead = FakeSocket.last
  vi.advanceTimersByTime(40_000)
  dead.says({ type: 'ping', ack: 0 })
  vi.advanceTimersByTime(49_999)
  expect(connection.state).toBe('online')
  vi.advanceTimersByTime(1)
  expect(connection.state).toBe('offline')
  expect(dead.closedWith).toBe(4002)
  dead.says(accept(1))
  dead.closes(4500)
  expect(messages).toEqual([])
  expect(connection.state).toBe('offline')
})

test('a socket that never gets its welcome is given up', () => {
  connection.open()
  vi.advanceTimersByTime(10_000)
  expect(connection.state).toBe('offline')
})

test.each([
  ['nobody waits', false, [250, 500, 1000, 2000, 4000, 5000, 5000]],
  ['there is a call', true, [250, 500, 500, 500, 500, 500, 500]],
])('back-off doubles to its cap, with full jitter, while %s', async (_, waited, expected) => {
  urgent = waited
  connection.open()
  const waits: number[] = []
  for (let i = 0; i < 7; i++) {
    const tries = FakeSocket.all.length
    FakeSocket.last.closes(1006)
    let wait = 0
    for (; FakeSocket.all.length === tries; wait += 250) await vi.advanceTimersByTimeAsync(250)
    waits.push(wait)
  }
  expect(waits).toEqual(expected)
  online()
  FakeSocket.last.closes(1006)
  vi.advanceTimersByTime(250)
  expect(connection.state).toBe('connecting')
})

test('no WebSocket is tried a third time before the server answers otherwise', async () => {
  let there = false
  const probed: AbortSignal[] = []
  probe = async (signal) => {
    probed.push(signal)
    return there
  }
  connection.open()
  online()
  FakeSocket.last.closes(1006)
  await vi.advanceTimersByTimeAsync(250)
  FakeSocket.last.closes(1006)
  await vi.advanceTimersByTimeAsync(60_000)
  expect(FakeSocket.all).toHaveLength(2)
  expect(probed.length).toBeGreaterThan(5)
  expect(connection.state).toBe('offline')
  there = true
  await vi.advanceTimersByTimeAsync(10_000)
  expect(FakeSocket.all).toHaveLength(3)
  expect(connection.state).toBe('connecting')
})

test('an answer that does not come is waited for as long as a welcome', async () => {
  const probed: AbortSignal[] = []
  probe = (signal) => {
    probed.push(signal)
    return new Promise((resolve) => signal.addEventListener('abort', () => resolve(false)))
  }
  connection.open()
  FakeSocket.last.closes(1006)
  await vi.advanceTimersByTimeAsync(250)
  FakeSocket.last.closes(1006)
  await vi.advanceTimersByTimeAsync(500 + 9999)
  expect(probed.map(({ aborted }) => aborted)).toEqual([false])
  await vi.advanceTimersByTimeAsync(1 + 1000)
  expect(probed.map(({ aborted }) => aborted)).toEqual([true, false])
  // Who asks for the connection now gets it now.
  connection.open()
  expect(probed.map(({ aborted }) => aborted)).toEqual([true, true])
  expect(FakeSocket.all).toHaveLength(3)
  await vi.advanceTimersByTimeAsync(1)
  expect(FakeSocket.all).toHaveLength(3)
})

test('hello again: the old socket stands until the new one is welcome', () => {
  connection.open()
  online()
  const old = FakeSocket.last
  connection.send(hangup('a'))
  old.take()
  connection.helloAgain()
  connection.helloAgain()
  expect(FakeSocket.all).toHaveLength(2)
  connection.send(hangup('b'))
  old.says(accept(1))
  expect(old.closedWith).toBeUndefined()
  expect(connection.reachable).toBe(false)
  expect(online({ resumed: true, received: 1 })).toMatchObject([{ resume: 'r1', received: 0 }])
  expect(connection.reachable).toBe(true)
  expect(reached).toEqual([true, false])
  expect(FakeSocket.last.take()).toEqual([{ seq: 2, type: 'hangup', call: 'b', agoMs: 0 }])
  expect(old.closedWith).toBe(4002)
  expect(messages).toEqual([])
  expect(changes.map((change) => change.new)).toEqual(['connecting', 'online'])
})

test('a server that answers while no WebSocket opens: the page hears that they are blocked', async () => {
  connection.open()
  const errors = () =>
    changes.filter(({ new: now }) => now === 'offline').map(({ error }) => error?.code)
  for (let i = 0; i < 5; i++) {
    FakeSocket.last.closes(1006)
    await vi.advanceTimersByTimeAsync(10_000)
  }
  expect(errors().slice(0, 5)).toEqual([
    undefined,
    undefined,
    undefined,
    'websocket_blocked',
    'websocket_blocked',
  ])
  // Another network: one that opens.
  online()
  expect(connection.state).toBe('online')
  FakeSocket.last.closes(1006)
  expect(changes.at(-1)).toMatchObject({ new: 'offline', error: undefined })
})

test('who was heard just now is not asked whether they are there', () => {
  connection.open()
  online()
  vi.advanceTimersByTime(500)
  FakeSocket.last.says(accept(1))
  vi.advanceTimersByTime(999)
  connection.check()
  expect(FakeSocket.all).toHaveLength(1)
  vi.advanceTimersByTime(1)
  connection.check()
  expect(FakeSocket.all).toHaveLength(2)
})

test('hello again that nobody answers: the connection is dead', () => {
  connection.open()
  online()
  connection.helloAgain()
  vi.advanceTimersByTime(4000)
  expect(connection.state).toBe('offline')
})

test('a page in the place of another says so until it is welcome', () => {
  connection.takeOver('r0')
  connection.open()
  FakeSocket.last.closes(1006)
  vi.advanceTimersByTime(10_000)
  expect(online()).toMatchObject([{ resume: 'r0', reload: true }])
  FakeSocket.last.closes(1006)
  vi.advanceTimersByTime(10_000)
  const [hello] = online()
  expect(hello).toMatchObject({ resume: 'r1', received: 0 })
  expect(hello).not.toHaveProperty('reload')
})

test('a server that restarts says when to come back', () => {
  connection.open()
  online()
  FakeSocket.last.says({ seq: 1, type: 'restarting', minMs: 2000, maxMs: 4000 })
  FakeSocket.last.closes(4000)
  vi.advanceTimersByTime(2999)
  expect(FakeSocket.all).toHaveLength(1)
  vi.advanceTimersByTime(1)
  expect(FakeSocket.all).toHaveLength(2)
})

test.each([1001, 1006, 4000, 4001, 4002, 4003, 4004, 4499])('close code %d: come back', (code) => {
  connection.open()
  online()
  FakeSocket.last.closes(code)
  expect(connection.state).toBe('offline')
})

test.each([
  [4500, 'bad_message'],
  [4501, 'bad_message'],
  [4502, 'rate_limited'],
  [4503, 'wrong_session'],
  [4505, 'bad_message'],
  [4999, 'internal'],
])('close code %d: stay away', (code, word) => {
  connection.open()
  online()
  FakeSocket.last.closes(code)
  expect(changes.at(-1)).toMatchObject({ new: 'refused', error: { code: word } })
  vi.advanceTimersByTime(60_000)
  expect(FakeSocket.all).toHaveLength(1)
  connection.open()
  expect(connection.state).toBe('connecting')
})

test.each([
  ['name_taken', 'refused'],
  ['full', 'offline'],
])('a hello refused as %s, and no close frame after it', (code, state) => {
  connection.open()
  FakeSocket.last.open()
  FakeSocket.last.says({ type: 'error', code, message: 'No.' })
  FakeSocket.last.closes(1006)
  expect(connection.state).toBe(state)
})

test('a refused hello says why', () => {
  connection.open()
  FakeSocket.last.open()
  FakeSocket.last.says({ type: 'error', code: 'name_taken', message: 'Somebody has that name.' })
  FakeSocket.last.closes(4504)
  expect(changes.at(-1)).toMatchObject({
    new: 'refused',
    error: { code: 'name_taken', message: 'Somebody has that name.' },
  })
})

test.each([
  ['and with a name we try once more', 'Ann', 'connecting'],
  ['and without a name that is all', undefined, 'refused'],
])('a refused token is dropped, %s', (_, name, state) => {
  identity.name = name
  identity.token = 'stale'
  connection.open()
  const refuse = () => {
    FakeSocket.last.open()
    FakeSocket.last.says({ type: 'error', code: 'unauthorized', message: 'no' })
    FakeSocket.last.closes(4504)
  }
  refuse()
  expect(identity.token).toBeUndefined()
  expect(connection.state).toBe(state)
  if (name === undefined) return
  refuse()
  expect(FakeSocket.all).toHaveLength(2)
  expect(connection.state).toBe('refused')
})

test('leaving closes with 1000 and stays away', () => {
  connection.open()
  online()
  connection.close()
  expect(FakeSocket.last.closedWith).toBe(1000)
  expect(connection.state).toBe('idle')
  vi.advanceTimersByTime(60_000)
  expect(FakeSocket.all).toHaveLength(1)
})

test('what is no message disturbs nothing', () => {
  connection.open()
  online()
  FakeSocket.last.onmessage?.({ data: 'nonsense' })
  FakeSocket.last.onmessage?.({ data: new ArrayBuffer(3) })
  FakeSocket.last.says({ seq: 1, type: 'later' })
  FakeSocket.last.says(accept(2))
  expect(messages).toHaveLength(1)
})
