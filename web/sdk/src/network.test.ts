import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { fakeBrowser, page } from './fakes.ts'
import { type NetworkChange, watchNetwork } from './network.ts'

beforeEach(() => {
  fakeBrowser()
})

afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
})

test('an estimate is told from another network, and that from one that was gone', () => {
  const connection = Object.assign(new EventTarget(), { type: 'wifi' })
  vi.stubGlobal('navigator', { connection })
  const heard: NetworkChange[] = []
  const stop = watchNetwork((change) => heard.push(change))
  const changes = () => connection.dispatchEvent(new Event('change'))
  changes()
  connection.type = 'cellular'
  changes()
  changes()
  page.dispatchEvent(new Event('online'))
  expect(heard).toEqual(['perhaps', 'other', 'perhaps', 'back'])
  stop()
  changes()
  page.dispatchEvent(new Event('online'))
  expect(heard).toHaveLength(4)
})
