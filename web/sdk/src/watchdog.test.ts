import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { MediaWatchdog } from './watchdog.ts'

let received: number
let playedMs: number
let expected: boolean
let woke: number
let stalls: boolean[]
let watchdog: MediaWatchdog

beforeEach(() => {
  vi.useFakeTimers()
  received = playedMs = woke = 0
  expected = true
  stalls = []
  watchdog = new MediaWatchdog({
    stalledMs: () => 1000,
    measure: async () => ({ received, playedMs }),
    mediaExpected: () => expected,
    changed: () => stalls.push(watchdog.stalled),
    tick: () => undefined,
    woke: () => woke++,
  })
})

afterEach(() => {
  watchdog.close()
  vi.useRealTimers()
})

/** Media comes for so long. */
async function flow(ms: number) {
  for (let i = 0; i < ms; i += 100) {
    received += 1000
    await vi.advanceTimersByTimeAsync(100)
  }
}

test('a second without a byte is a standstill, until one comes', async () => {
  await flow(2000)
  await vi.advanceTimersByTimeAsync(750)
  expect(stalls).toEqual([])
  await vi.advanceTimersByTimeAsync(500)
  expect(stalls).toEqual([true])
  await flow(300)
  expect(stalls).toEqual([true, false])
})

test('of one who sends nothing nothing is expected', async () => {
  await flow(500)
  expected = false
  await vi.advanceTimersByTimeAsync(10_000)
  expect(stalls).toEqual([])
  expected = true
  await vi.advanceTimersByTimeAsync(750)
  expect(stalls).toEqual([])
  await vi.advanceTimersByTimeAsync(500)
  expect(stalls).toEqual([true])
})

test('a new connection has its time', async () => {
  await vi.advanceTimersByTimeAsync(1500)
  expect(watchdog.stalled).toBe(true)
  watchdog.reset()
  expect(watchdog.stalled).toBe(false)
  await vi.advanceTimersByTimeAsync(750)
  expect(watchdog.stalled).toBe(false)
})

test('a machine that slept', async () => {
  await flow(1000)
  vi.setSystemTime(Date.now() + 60_000)
  await flow(500)
  expect(woke).toBe(1)
})

test('a page that was held up for as long has not slept: what came was played meanwhile', async () => {
  await flow(1000)
  vi.setSystemTime(Date.now() + 6000)
  playedMs += 6000
  await flow(500)
  expect(woke).toBe(0)
  // The next time the machine does.
  vi.setSystemTime(Date.now() + 6000)
  playedMs += 300
  await flow(500)
  expect(woke).toBe(1)
})

test('nothing is felt once it is closed', async () => {
  watchdog.close()
  await vi.advanceTimersByTimeAsync(5000)
  expect(stalls).toEqual([])
})
