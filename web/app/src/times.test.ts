import { expect, test } from 'vitest'
import { clock, length, when } from './times.ts'

test.each([
  [0, '0:00'],
  [75.9, '1:15'],
  [3675, '1:01:15'],
  [-3, '0:00'],
])('%d s read %s', (seconds, want) => {
  expect(clock(seconds)).toBe(want)
})

test.each([
  [42, 'en', '42 sec'],
  [9.9, 'en', '9 sec'],
  [59.9, 'en', '59 sec'],
  [1275, 'en', '21 min'],
  [3600, 'en', '1 hr'],
  [4510, 'en', '1 hr 15 min'],
  [4510, 'zh-Hans', '1小时 15分钟'],
])('a call of %d s, %s: %s', (seconds, language, want) => {
  expect(length(seconds, language)).toBe(want)
})

const now = new Date(2026, 10, 22, 9, 30)
test.each([
  [new Date(2026, 10, 22, 7, 5), /^7:05\sAM$/],
  [new Date(2026, 10, 21, 23, 59), /^yesterday$/],
  [new Date(2026, 10, 18, 9, 30), /^Wednesday$/],
  [new Date(2026, 9, 1, 9, 30), /^Oct 1$/],
  [new Date(2025, 10, 1, 9, 30), /2025/],
])('%s is told as people do', (date, want) => {
  expect(when(date, now, 'en')).toMatch(want)
})

test('and in Chinese', () => {
  expect(when(new Date(2026, 10, 21), now, 'zh-Hans')).toBe('昨天')
})
