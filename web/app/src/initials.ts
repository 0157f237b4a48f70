// How a person without a picture is drawn: initials on a gradient of their own.

const cjk = /\p{Script=Han}|\p{Script=Hiragana}|\p{Script=Katakana}|\p{Script=Hangul}/u

const segmenter = new Intl.Segmenter(undefined, { granularity: 'grapheme' })

function letters(text: string): string[] {
  return Array.from(segmenter.segment(text), (s) => s.segment)
}

/**
 * Up to two letters for a name: first and last word's first letters; of a Chinese, Japanese or Korean name
 * the last two, or the last one where the name has only two (the family name comes first).
 */
export function initials(name: string): string {
  const words = name.trim().split(/\s+/u).filter(Boolean)
  const first = words[0]
  const last = words.at(-1)
  if (first === undefined || last === undefined) return ''
  if (cjk.test(last)) {
    const all = letters(last)
    return all.slice(all.length > 2 ? -2 : -1).join('')
  }
  const head = letters(first)[0] ?? ''
  const tail = words.length > 1 ? (letters(last)[0] ?? '') : ''
  return (head + tail).toLocaleUpperCase()
}

/**
 * The hue of a user's gradient, in degrees: the same on every device, for it comes from the id alone. The muddy hues
 * between 45° and 140° are left out.
 */
export function hue(id: string): number {
  let hash = 2166136261 // FNV-1a, then MurmurHash3's finish: ids differ in their last letters only
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 16777619)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  const part = ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32
  return Math.floor(140 + part * 265) % 360
}
