import { en, type Strings } from './en.ts'
import { zh } from './zh.ts'

/** The strings for the first language of the list that the page speaks; English where it speaks none. */
export function pick(languages: readonly string[]): Strings {
  for (const language of languages) {
    if (/^zh\b/iu.test(language)) return zh
    if (/^en\b/iu.test(language)) return en
  }
  return en
}

/** The strings for this browser. */
export const t = pick(navigator.languages)

/** How this browser writes dates, where that is the language the page speaks. */
export const locale = navigator.language.startsWith(t.language.slice(0, 2))
  ? navigator.language
  : t.language
