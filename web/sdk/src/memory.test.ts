import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { FakeLocks, fakeBrowser, fakeStorage, settle } from './fakes.ts'
import { Memory } from './memory.ts'
import { KeptStorage } from './storage.ts'

const call = {
  id: 'n1-c',
  ticket: 'secret',
  confirmed: true,
  epoch: 0,
  relayOnly: true,
  audio: true,
  video: false,
}
let storage: Storage

beforeEach(() => {
  fakeBrowser()
  storage = fakeStorage()
})

afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
  vi.restoreAllMocks()
})

/** A page that has a call; it lives on unless it is closed. */
async function page(close: boolean) {
  const memory = new Memory(new KeptStorage(storage), 'https://server')
  expect(memory.claim()).toBeUndefined()
  memory.save({ resume: 'r1' })
  memory.save({ call })
  await settle()
  if (close) FakeLocks.held.clear()
  return memory
}

test('a page finds what the page before has left, as often as it is loaded', async () => {
  await page(true)
  for (let i = 0; i < 2; i++) {
    const memory = new Memory(new KeptStorage(storage), 'https://server')
    expect(await memory.claim()).toEqual({ resume: 'r1', call, aliveAt: Date.now() })
    memory.save({ resume: 'r1' })
    FakeLocks.held.clear()
  }
})

test('a duplicated tab leaves the living page alone, and keeps its own things from then on', async () => {
  await page(false)
  const copy = new Memory(new KeptStorage(storage), 'https://server')
  expect(await copy.claim()).toBeUndefined()
  copy.save({ resume: 'r2' })
  FakeLocks.held.clear()
  expect(await new Memory(new KeptStorage(storage), 'https://server').claim()).toEqual({
    resume: 'r2',
  })
})

test.each([
  ['navigate', 500],
  ['reload', 5000],
])('a page before may take its time to go: %s', async (type, ms) => {
  await page(true)
  const entry = { type, toJSON: () => ({}) } as unknown as PerformanceEntry
  vi.spyOn(performance, 'getEntriesByType').mockReturnValue([entry])
  const timeout = vi.spyOn(AbortSignal, 'timeout')
  await new Memory(new KeptStorage(storage), 'https://server').claim()
  expect(timeout).toHaveBeenCalledWith(ms)
})

test('another server, and one that was left, have nothing', async () => {
  const memory = await page(true)
  expect(new Memory(new KeptStorage(storage), 'https://other').claim()).toBeUndefined()
  memory.forget()
  expect(new Memory(new KeptStorage(storage), 'https://server').claim()).toBeUndefined()
})

test('a living call is noted, but not each time', async () => {
  const memory = await page(true)
  const began = Date.now()
  for (let i = 0; i < 6; i++) {
    vi.advanceTimersByTime(2000)
    memory.callAlive()
  }
  expect(memory.saved.aliveAt).toBe(began + 12_000)
  vi.advanceTimersByTime(1000)
  memory.callAlive()
  memory.save({ resume: 'r3' })
  expect(memory.saved.aliveAt).toBe(began + 12_000)
})

test.each(['null', '{', '{}', '{"lock":7}', '{"lock":"a","call":{"id":"c"}}'])(
  'what is none of ours is nothing: %s',
  (item) => {
    storage.setItem('visavis.page https://server', item)
    expect(new Memory(new KeptStorage(storage), 'https://server').claim()).toBeUndefined()
  },
)

test('without locks nothing is kept, since nothing could be told apart', () => {
  vi.stubGlobal('navigator', {})
  const memory = new Memory(new KeptStorage(storage), 'https://server')
  memory.save({ resume: 'r1', call })
  expect(storage.length).toBe(0)
})
