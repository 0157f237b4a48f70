import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Ringer } from './sound.ts'

/** A browser's sound, which starts by itself or once the page is touched. */
class FakeContext extends EventTarget {
  static startsAlone = false
  static touched = false
  state = 'suspended'

  async resume(): Promise<void> {
    if (FakeContext.startsAlone || FakeContext.touched) this.#become('running')
  }

  async suspend(): Promise<void> {
    this.#become('suspended')
  }

  #become(state: string): void {
    if (this.state === state) return
    this.state = state
    this.dispatchEvent(new Event('statechange'))
  }
}

beforeEach(() => {
  vi.useFakeTimers()
  vi.stubGlobal('AudioContext', FakeContext)
  FakeContext.startsAlone = false
  FakeContext.touched = false
})
afterEach(() => {
  vi.unstubAllGlobals()
  vi.useRealTimers()
})

test('a page that may make no sound says so until it is touched', async () => {
  const ringer = new Ringer()
  const page = new EventTarget() as unknown as Window
  ringer.listen(page)
  expect(ringer.silent.value).toBe(false)
  await vi.advanceTimersByTimeAsync(1000)
  expect(ringer.silent.value).toBe(true)
  FakeContext.touched = true
  page.dispatchEvent(new Event('pointerup'))
  await vi.advanceTimersByTimeAsync(0)
  expect(ringer.silent.value).toBe(false)
})

test('a page that may make sound says nothing', async () => {
  FakeContext.startsAlone = true
  const ringer = new Ringer()
  ringer.listen(new EventTarget() as unknown as Window)
  await vi.advanceTimersByTimeAsync(1000)
  expect(ringer.silent.value).toBe(false)
})
