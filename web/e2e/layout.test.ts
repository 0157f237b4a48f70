// Measures every screen of the gallery in the sizes and text sizes that people have, with the longest names. A control
// that is off the screen, covered, cut off or too small to touch is a failure.

import { fileURLToPath } from 'node:url'
import type { Browser, Page } from 'playwright-core'
import { createServer, type ViteDevServer } from 'vite'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { connectTo } from './browsers.ts'

interface Frame {
  readonly width: number
  readonly height: number
  /** The reader's own text size, in per cent. */
  readonly text: number
}

const sizes = [
  [320, 256], // a desktop of 1280×1024 at 400 % zoom: WCAG 2.2, 1.4.10
  [320, 568],
  [360, 740],
  [390, 844],
  [568, 320],
  [844, 390],
  [768, 1024],
  [1024, 768],
  [1280, 800],
] as const

// Text at 200 % on a page at 400 % is not asked for: both are 400 % and more.
const frames: Frame[] = sizes.flatMap(([width, height]) =>
  (height < 300 ? [100] : [100, 130, 200]).map((text) => ({ width, height, text })),
)

// Forty letters without a space, the longest names that the server takes.
const cases = [
  { script: 'Latin', dir: 'ltr', name: 'Wolfeschlegelsteinhausenbergerdorffmeier' },
  { script: 'Latin', dir: 'rtl', name: 'Wolfeschlegelsteinhausenbergerdorffmeier' },
  {
    script: 'Chinese',
    dir: 'ltr',
    name: '欧阳上官诸葛司马慕容尉迟令狐皇甫公孙宇文长孙东方独孤南宫夏侯钟离端木百里呼延拓跋',
  },
  { script: 'Arabic', dir: 'rtl', name: 'عبدالرحمنعبدالرحيمعبدالعزيزعبداللطيفمحمد' },
] as const

let server: ViteDevServer
let browser: Browser
let page: Page

beforeAll(async () => {
  server = await createServer({
    root: fileURLToPath(new URL('../app', import.meta.url)),
    server: { port: 0, host: '127.0.0.1', hmr: false },
    logLevel: 'error',
  })
  await server.listen()
  browser = await connectTo('chromium', inject('chromium'))
  page = await browser.newPage({ viewport: { width: 1300, height: 1100 }, locale: 'en-GB' })
  await page.goto(new URL('/gallery/frame.html', server.resolvedUrls?.local[0]).href)
  await page.evaluate(open)
}, 120_000)

afterAll(async () => {
  await browser?.close()
  await server?.close()
})

test.each(cases)('no $script name pushes a control off a screen ($dir)', async (one) => {
  expect([...one.name]).toHaveLength(40)
  const screens = await page.evaluate(
    () => (window.frames[0] as Window | undefined)?.gallery.screens ?? [],
  )
  expect(screens).toContain('call-waiting-problems')
  const wrong: string[] = []
  for (const screen of screens) {
    wrong.push(...(await page.evaluate(measure, { screen, frames, ...one })))
  }
  expect(wrong, wrong.join('\n')).toHaveLength(0)
})

test('nothing moves for those who do not want it', async () => {
  const still = await browser.newPage({ reducedMotion: 'reduce' })
  await still.goto(new URL('/gallery/index.html?still&screen=ringing-out', page.url()).href)
  await still.waitForFunction(() => window.gallery)
  // Colours may still fade: those are transitions.
  const moving = () =>
    still.evaluate(
      () => document.getAnimations().filter((each) => each instanceof CSSAnimation).length,
    )
  expect(await moving()).toBe(0)
  await still.evaluate(() => window.gallery.open('call'))
  const moved = await still.evaluate(() =>
    [...document.querySelectorAll('*')].flatMap((element) =>
      /translate|transform|scale|top|inset/u.test(getComputedStyle(element).transitionProperty)
        ? [element.className]
        : [],
    ),
  )
  expect(moved).toEqual([])
  const names = () =>
    [...document.querySelectorAll<HTMLElement>('h1, [role=timer]')].map((e) => e.translate)
  expect(await still.evaluate(names)).toEqual([false, false])
  await still.close()
})

test('my own page fills a desktop', async () => {
  const desktop = await browser.newPage({ viewport: { width: 1280, height: 800 } })
  await desktop.goto(new URL('/gallery/index.html?still&screen=me', page.url()).href)
  await desktop.waitForFunction(() => document.querySelector('.me'))
  const width = () => Math.round(document.querySelector('.me')?.parentElement?.clientWidth ?? 0)
  expect(await desktop.evaluate(width)).toBe(1280)
  await desktop.close()
})

/** Opens the gallery in the frame of this page. */
async function open(): Promise<void> {
  const frame = document.querySelector('iframe')
  if (!frame) throw new Error('no frame')
  frame.width = '390'
  frame.height = '844'
  frame.src = '/gallery/index.html?still'
  while (!frame.contentDocument?.documentElement.hasAttribute('data-screens')) {
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  // Nothing moves while it is measured.
  const still = frame.contentDocument.createElement('style')
  still.textContent =
    '*, ::before, ::after { animation: none !important; transition: none !important }'
  frame.contentDocument.head.append(still)
}

/** Opens a screen and tells what is wrong with it in each of these frames. */
async function measure({
  screen,
  name,
  dir,
  frames,
}: {
  screen: string
  name: string
  dir: string
  frames: readonly Frame[]
}): Promise<string[]> {
  const frame = document.querySelector('iframe')
  const view = frame?.contentWindow as (Window & typeof globalThis) | null | undefined
  const page = frame?.contentDocument
  if (!frame || !view || !page) throw new Error('no frame')
  const wrong: string[] = []
  await view.gallery.open(screen, name)
  // What opens by a click or a timer has done so by then.
  await new Promise((resolve) => setTimeout(resolve, 250))
  page.documentElement.dir = dir

  const words = (element: Element) =>
    (element.getAttribute('aria-label') ?? element.textContent ?? '').replace(name, 'NAME')
  const nameOf = (element: Element) =>
    `${element.tagName.toLowerCase()}.${element.classList[0]} “${words(element).slice(0, 24)}”`

  const reach = (element: HTMLElement, width: number, height: number): string | undefined => {
    // What scrolls may be scrolled to. The controls of a call may not need it.
    if (!element.closest('.bar, .acts')) element.scrollIntoView({ block: 'center' })
    const box = element.getBoundingClientRect()
    if (box.left < -1 || box.right > width + 1 || box.top < -1 || box.bottom > height + 1) {
      const at = [box.left, box.top, box.right, box.bottom].map(Math.round).join(' ')
      return `is off the screen: ${at}`
    }
    if (element.tagName !== 'INPUT' && Math.min(box.width, box.height) < 43.5) {
      return `is small: ${Math.round(box.width)}×${Math.round(box.height)}`
    }
    if (element.tagName !== 'INPUT' && element.scrollWidth > element.clientWidth + 1) {
      return 'is cut off'
    }
    const hit = page.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2)
    if (hit && (element.contains(hit) || hit.closest('label')?.control === element)) return
    // The card after a call goes by itself, or at a press; notes lie over the small picture where there is little room.
    if (hit?.closest('.after') || (element.closest('.tile') && hit?.closest('.call-notes'))) return
    return `is covered by ${hit ? nameOf(hit) : 'nothing'}`
  }

  const isCut = (element: HTMLElement): boolean => {
    const style = view.getComputedStyle(element)
    if (style.display === 'inline' || style.overflowX === 'visible') return false
    if (style.textOverflow === 'ellipsis' || style.webkitLineClamp !== 'none') return false
    const { scrollWidth, clientWidth, scrollHeight, clientHeight } = element
    return scrollWidth > clientWidth + 1 || scrollHeight > clientHeight + 2
  }

  for (const { width, height, text } of frames) {
    frame.width = `${width}`
    frame.height = `${height}`
    page.documentElement.style.fontSize = `${text}%`
    const where = `${screen} ${width}×${height}, text ${text} %:`
    const tooWide = frame.clientWidth && page.documentElement.scrollWidth - width
    if (tooWide > 0) wrong.push(`${where} ${tooWide} px too wide`)
    for (const element of page.querySelectorAll<HTMLElement>('button, input, a[href]')) {
      if (!element.checkVisibility({ visibilityProperty: true })) continue
      const trouble = reach(element, width, height)
      if (trouble) wrong.push(`${where} ${nameOf(element)} ${trouble}`)
    }
    for (const element of page.querySelectorAll<HTMLElement>(
      'h1, h2, h3, p, span, legend, label',
    )) {
      if (element.classList.contains('unseen')) continue
      if (!element.checkVisibility({ visibilityProperty: true })) continue
      if (isCut(element)) wrong.push(`${where} ${nameOf(element)} is cut off`)
    }
  }
  return wrong
}

declare global {
  interface Window {
    gallery: {
      readonly screens: readonly string[]
      open(screen: string, name?: string): Promise<void>
    }
  }
}
