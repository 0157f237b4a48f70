import { expect, test } from 'vitest'
import { hue, initials } from './initials.ts'

test.each([
  ['Ann', 'A'],
  ['bob marlowe', 'BM'],
  ['Ana María de la Cruz', 'AC'],
  ['Éva', 'É'],
  ['王小明', '小明'],
  ['欧阳静怡', '静怡'],
  ['陈伟', '伟'],
  ['王', '王'],
  ['🦊 Fox', '🦊F'],
  ['👩‍🚀', '👩‍🚀'],
  ['  ', ''],
])('the initials of %j are %j', (name, want) => {
  expect(initials(name)).toBe(want)
})

test('a hue comes from the id alone, is never muddy, and ids that look alike differ', () => {
  const hues = Array.from({ length: 500 }, (_, i) => hue(`u${i}`))
  expect(hue('u7')).toBe(hues[7])
  for (const h of hues) expect(h >= 140 ? h < 360 : h >= 0 && h < 45).toBe(true)
  expect(new Set(hues.map((h) => Math.floor(h / 30))).size).toBeGreaterThan(8)
})
