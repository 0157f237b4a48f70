import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { FakeBroadcast, FakeSocket, fakeBrowser, settle, welcome } from './fakes.ts'
import { Visavis } from './visavis.ts'

let visavis: Visavis
let other: FakeBroadcast
let heard: unknown[]
let seq: number

beforeEach(async () => {
  fakeBrowser()
  seq = 0
  heard = []
  visavis = new Visavis({ url: 'https://server', name: 'Ann', storage: null })
  void visavis.connect()
  FakeSocket.last.open()
  FakeSocket.last.says(welcome())
  await settle()
  other = new FakeBroadcast('visavis https://server')
  other.onmessage = ({ data }) => heard.push(data)
})

afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
})

async function says(message: object) {
  FakeSocket.last.says({ seq: ++seq, ...message })
  await settle()
}

async function rung(more: object = {}) {
  const from = { id: 'ubo', name: 'Bob' }
  await says({
    type: 'ring',
    call: 'n1-c',
    from,
    video: true,
    ringMs: 60_000,
    iceServers: [],
    ...more,
  })
  const { call } = visavis
  if (!call) throw new Error('it does not ring')
  return call
}

test.each([
  ['tells the other tabs what it accepts', 'accept'],
  ['tells the other tabs what it declines', 'decline'],
] as const)('a tab %s', async (_, act) => {
  const call = await rung()
  call[act]()
  expect(heard).toEqual([{ acted: 'n1-c' }])
})

test('what another tab of this browser has done is told from what another device has', async () => {
  const here = await rung()
  other.postMessage({ acted: 'n1-c' })
  await says({ type: 'elsewhere', call: 'n1-c', act: 'accepted' })
  expect(here.end).toMatchObject({ reason: 'elsewhere-accepted', tab: true })

  const late = await rung({ call: 'n1-e' })
  await says({ type: 'elsewhere', call: 'n1-e', act: 'declined' })
  expect(late.end).toBeUndefined() // the server may be faster than the other tab
  other.postMessage({ acted: 'n1-e' })
  await vi.waitFor(() =>
    expect(late.end).toMatchObject({ reason: 'elsewhere-declined', tab: true }),
  )

  const far = await rung({ call: 'n1-d' })
  await says({ type: 'elsewhere', call: 'n1-d', act: 'declined' })
  await vi.waitFor(() => expect(far.end).toBeDefined())
  expect(far.end?.reason).toBe('elsewhere-declined')
  expect(far.end).not.toHaveProperty('tab')
})

test('a tab finds out that the call which is on is in another tab', async () => {
  const call = await rung({ waiting: true })
  expect(heard).toEqual([{ asks: visavis.user?.id }])
  let changes = 0
  call.on('media', () => changes++)
  other.postMessage({ inCall: 'somebody else' })
  expect([call.otherTabInCall, changes]).toEqual([false, 0])
  other.postMessage({ inCall: visavis.user?.id })
  expect([call.otherTabInCall, changes]).toEqual([true, 1])
})

test('a tab that is in a call says so when it is asked', async () => {
  const ask = () => {
    heard.splice(0)
    other.postMessage({ asks: visavis.user?.id })
    return heard
  }
  expect(ask()).toEqual([])
  const call = await rung()
  expect(ask()).toEqual([])
  call.accept()
  expect(ask()).toEqual([{ inCall: visavis.user?.id }])
  other.postMessage(7)
  visavis.close()
  expect(ask()).toEqual([])
})
