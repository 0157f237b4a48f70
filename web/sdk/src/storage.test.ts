import { expect, test } from 'vitest'
import { fakeStorage } from './fakes.ts'
import { KeptStorage } from './storage.ts'

const refuse = () => {
  throw new DOMException('refused', 'QuotaExceededError')
}

test('what the browser keeps lasts', () => {
  const storage = fakeStorage()
  new KeptStorage(storage).setItem('a', '1')
  const later = new KeptStorage(storage)
  expect([later.getItem('a'), later.lasts('a'), later.lasts('b')]).toEqual(['1', true, false])
  later.removeItem('a')
  expect([later.getItem('a'), storage.getItem('a')]).toEqual([null, null])
})

test('a full storage keeps nothing old, and the page goes on with the new', () => {
  const storage = fakeStorage()
  storage.setItem('a', 'old')
  storage.setItem = refuse
  const kept = new KeptStorage(storage)
  kept.setItem('a', 'new')
  expect([kept.getItem('a'), kept.lasts('a'), storage.getItem('a')]).toEqual(['new', false, null])
})

test.each([
  ['none', null],
  ['refused', { getItem: refuse, setItem: refuse, removeItem: refuse, clear: refuse }],
])('a storage that is %s is no obstacle', (_, storage) => {
  const kept = new KeptStorage(storage)
  expect(kept.getItem('a')).toBeNull()
  kept.setItem('a', '1')
  expect([kept.getItem('a'), kept.lasts('a')]).toEqual(['1', false])
  kept.removeItem('a')
  expect(kept.getItem('a')).toBeNull()
  kept.setItem('a', '2')
  kept.clear()
  expect(kept.getItem('a')).toBeNull()
})
