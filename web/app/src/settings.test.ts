import { beforeEach, expect, test } from 'vitest'
import { Settings } from './settings.ts'

beforeEach(() => {
  localStorage.clear()
  sessionStorage.clear()
})

test('the name is kept between visits, the call only over a reload', () => {
  const settings = new Settings(localStorage, sessionStorage)
  settings.name = 'Ann'
  settings.call = { id: 'ubo7', name: 'Bob' }
  const reloaded = new Settings(localStorage, sessionStorage)
  expect([reloaded.name, reloaded.call]).toEqual(['Ann', { id: 'ubo7', name: 'Bob' }])
  sessionStorage.clear()
  expect([reloaded.name, reloaded.call]).toEqual(['Ann', undefined])
})

test('a call that is over is forgotten, and so is everything when the person leaves', () => {
  const settings = new Settings(localStorage, sessionStorage)
  settings.call = { id: 'ubo7', name: 'Bob' }
  settings.call = undefined
  expect(settings.call).toBeUndefined()
  settings.name = 'Ann'
  settings.call = { id: 'ubo7', name: 'Bob' }
  settings.forget()
  expect([settings.name, settings.call]).toEqual(['', undefined])
})

test('single letters are keys of a call until somebody switches them off', () => {
  expect(new Settings(localStorage).shortcuts).toBe(true)
  new Settings(localStorage).shortcuts = false
  expect(new Settings(localStorage).shortcuts).toBe(false)
})

test.each(['', 'null', '7', '{"id":"ubo7"}', '{'])('%s is no call', (kept) => {
  sessionStorage.setItem('visavis.with', kept)
  expect(new Settings(localStorage, sessionStorage).call).toBeUndefined()
})
