import { expect, test } from 'vitest'
import { en } from './en.ts'
import { pick } from './pick.ts'
import { zh } from './zh.ts'

function leaves(table: object, path = ''): string[] {
  return Object.entries(table).flatMap(([key, value]) =>
    typeof value === 'object' ? leaves(value, `${path}${key}.`) : [`${path}${key}`],
  )
}

function texts(table: object): string[] {
  return Object.values(table).flatMap((value) => {
    if (typeof value === 'object') return texts(value)
    return [typeof value === 'function' ? value('NAME') : value]
  })
}

test('both languages say the same things', () => {
  expect(leaves(zh)).toEqual(leaves(en))
})

test('every text is there, and keeps the name it is given', () => {
  for (const table of [en, zh]) {
    for (const text of texts(table)) expect(text.trim()).not.toBe('')
    const named = (t: object): string[] =>
      Object.values(t).flatMap((v) =>
        typeof v === 'object' ? named(v) : typeof v === 'function' ? [v('NAME')] : [],
      )
    for (const text of named(table)) expect(text).toContain('NAME')
  }
})

// The fingerprints come through the server, and nothing verifies them yet.
test('encryption is claimed no further than it goes', () => {
  for (const table of [en, zh]) {
    expect(texts(table).join('\n')).not.toMatch(/end.to.end|端到端|secure call|安全通话/i)
  }
  expect(en.call.encrypted).toContain('not yet verified')
  expect(zh.call.encrypted).toContain('尚未核验')
})

test('nothing is ever just wrong', () => {
  expect(texts(en).join('\n')).not.toMatch(/something went wrong|error|failed|oops/i)
})

test.each([
  [['zh-CN', 'en'], zh],
  [['de', 'zh-Hant-TW'], zh],
  [['en-GB', 'zh'], en],
  [['de', 'fr'], en],
  [[], en],
])('%j', (languages, want) => {
  expect(pick(languages)).toBe(want)
})
