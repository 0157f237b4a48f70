import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

const sheets = readdirSync(import.meta.dirname).filter((name) => name.endsWith('.css'))

test.each(sheets.filter((name) => name !== 'tokens.css'))(
  '%s names no colour and no pixel',
  (name) => {
    const text = readFileSync(`${import.meta.dirname}/${name}`, 'utf8')
      .replace(/\/\*[\s\S]*?\*\//g, '')
      .replace(/@media[^{]*/g, '') // custom properties do not reach media queries
    const named = /#[\da-f]{3,8}\b|\b(?:rgb|hsl|oklch|oklab|lab|lch)\(|\d(?:px|pt)\b/gi
    expect(text.match(named)).toBeNull()
    const used = new Set(text.match(/var\(--[\w-]+/g) ?? [])
    for (const use of used) expect(`${tokens}\n${text}`).toContain(`${use.slice(4)}:`)
  },
)

test('the browser’s own bars have the colours of the ground', () => {
  const page = readFileSync(`${import.meta.dirname}/../../index.html`, 'utf8')
  const bars = [...page.matchAll(/name="theme-color".*content="([^"]+)"/g)].map(([, bar]) => bar)
  const grounds = [...tokens.matchAll(/--ground: ([^;]+);/g)].map(([, ground]) => ground)
  expect(bars).toEqual(grounds)
})

const tokens = readFileSync(`${import.meta.dirname}/tokens.css`, 'utf8')
