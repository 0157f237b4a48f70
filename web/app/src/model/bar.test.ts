import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Bar, hideAfterMs } from './bar.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

test('the bar stays while there is no picture', () => {
  const bar = new Bar()
  bar.touch()
  vi.advanceTimersByTime(10 * hideAfterMs)
  expect(bar.shown.value).toBe(true)
})

test('over a picture it hides after a while without movement, and comes back with one', () => {
  const bar = new Bar()
  bar.mayHide(true)
  vi.advanceTimersByTime(hideAfterMs - 1)
  bar.touch()
  vi.advanceTimersByTime(hideAfterMs - 1)
  expect(bar.shown.value).toBe(true)
  vi.advanceTimersByTime(1)
  expect(bar.shown.value).toBe(false)
  bar.touch()
  expect(bar.shown.value).toBe(true)
})

test('it stays under the mouse and under the keyboard', () => {
  const bar = new Bar()
  bar.mayHide(true)
  bar.hold('focus', true)
  bar.hold('pointer', true)
  bar.hold('pointer', false)
  vi.advanceTimersByTime(2 * hideAfterMs)
  expect(bar.shown.value).toBe(true)
  bar.hold('focus', false)
  vi.advanceTimersByTime(hideAfterMs)
  expect(bar.shown.value).toBe(false)
})

test('it comes back when the picture goes', () => {
  const bar = new Bar()
  bar.mayHide(true)
  vi.advanceTimersByTime(hideAfterMs)
  bar.mayHide(false)
  expect(bar.shown.value).toBe(true)
})
