import { expect, test } from 'vitest'
import { notifications } from './notifications.ts'

test.each([
  ['en-GB', 'Ann is calling'],
  ['zh-CN', 'Ann来电'],
  ['zh', 'Ann来电'],
  ['de', 'Ann is calling'],
])('%s', (language, title) => {
  expect(notifications(language).ringing('Ann', true).title).toBe(title)
})

test.each(['en', 'zh'])(
  '%s: every notification names who called, and a ring says which kind',
  (language) => {
    const { decline, ...states } = notifications(language)
    for (const say of Object.values(states)) {
      expect(say('NAME', true).title).toContain('NAME')
      expect(say('NAME', true).body).not.toBe('')
    }
    expect(states.ringing('Ann', true)).not.toEqual(states.ringing('Ann', false))
    expect(decline).not.toBe('')
  },
)
