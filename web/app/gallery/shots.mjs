// Takes a picture of every screen in every size, light and dark, English and Chinese, asks axe-core about each, and
// puts all pictures on contact sheets.
//
//   node app/gallery/shots.mjs OUT [SCREEN…] [--size=small|phone|large|tablet|desktop] [--scheme=light|dark] [--language=en|zh] [--font=FAMILY]

import { mkdir, readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { chromium } from 'playwright-core'
import { createServer } from 'vite'

const args = process.argv.slice(2)
const flag = (name) => args.find((a) => a.startsWith(`--${name}=`))?.split('=')[1]
const [out, ...only] = args.filter((a) => !a.startsWith('--'))
if (!out) throw new Error('say where the pictures go: node app/gallery/shots.mjs OUT')

const sizes = {
  small: [320, 568],
  phone: [360, 740],
  large: [390, 844],
  tablet: [820, 1180],
  desktop: [1280, 800],
}
const phones = ['small', 'phone', 'large']
const languages = { en: 'en-GB', zh: 'zh-CN' }
const schemes = ['light', 'dark']
const pick = (all, chosen) => (chosen ? all.filter((one) => one === chosen) : all)

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const axe = createRequire(import.meta.url).resolve('axe-core')
await mkdir(out, { recursive: true })

const server = await createServer({
  root,
  server: { port: 0, host: '127.0.0.1' },
  logLevel: 'warn',
})
await server.listen()
const base = new URL('/gallery/index.html', server.resolvedUrls.local[0])

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--autoplay-policy=no-user-gesture-required',
  ],
})
let findings = 0
const shots = []
try {
  for (const size of pick(Object.keys(sizes), flag('size'))) {
    for (const language of pick(Object.keys(languages), flag('language'))) {
      for (const scheme of pick(schemes, flag('scheme'))) {
        const [width, height] = sizes[size]
        const context = await browser.newContext({
          viewport: { width, height },
          locale: languages[language],
          colorScheme: scheme,
          hasTouch: size !== 'desktop',
          isMobile: phones.includes(size),
        })
        const page = await context.newPage()
        page.on('pageerror', (error) => {
          findings++
          console.error(`${size} ${language} ${scheme}: ${error}`)
        })
        await page.goto(base.href)
        await page.waitForFunction(() => document.documentElement.dataset.screens)
        const all = await page.evaluate(() => document.documentElement.dataset.screens.split(' '))
        for (const screen of only.length > 0 ? only : all) {
          await page.goto(`${base.href}?screen=${screen}`)
          await page.waitForFunction(() => document.documentElement.dataset.screens)
          if (flag('font')) {
            await page.addStyleTag({
              content: `:root { --font: ${flag('font')}, sans-serif !important }`,
            })
          }
          await page.waitForTimeout(
            screen.startsWith('call') || screen.startsWith('ring') ? 900 : 350,
          )
          await page.mouse.move(width / 2, height / 3) // the bar of a call comes back
          await page.waitForTimeout(200)
          const path = join(out, `${screen}-${size}-${language}-${scheme}.png`)
          await page.screenshot({ path })
          shots.push({ screen, size, path })
          await page.addScriptTag({ path: axe })
          const { violations } = await page.evaluate(() =>
            window.axe.run({ resultTypes: ['violations'] }),
          )
          const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
          if (wide > 0) {
            findings++
            console.error(`${screen} ${size} ${language} ${scheme}: ${wide} px too wide`)
          }
          for (const v of violations) {
            findings++
            console.error(`${screen} ${size} ${language} ${scheme}: ${v.id}: ${v.help}`)
            for (const node of v.nodes)
              console.error(`    ${node.target}  ${node.any[0]?.message ?? ''}`)
          }
        }
        await context.close()
      }
    }
  }
  for (const size of new Set(shots.map((s) => s.size))) await sheet(size)
} finally {
  await browser.close()
  await server.close()
}
console.log(`${shots.length} pictures in ${out}, ${findings} findings`)
process.exitCode = findings > 0 ? 1 : 0

async function sheet(size) {
  const [width, height] = sizes[size]
  const scale = phones.includes(size) ? 0.6 : 0.3
  const page = await browser.newPage({ viewport: { width: 1600, height: 900 } })
  const pictures = await Promise.all(
    shots
      .filter((s) => s.size === size)
      .map(
        async ({ path }) =>
          `<img width="${width * scale}" height="${height * scale}" src="data:image/png;base64,${(await readFile(path)).toString('base64')}">`,
      ),
  )
  await page.setContent(
    `<body style="margin:8px;display:flex;flex-wrap:wrap;gap:8px;background:#888">${pictures.join('')}`,
  )
  await page.screenshot({ path: join(out, `sheet-${size}.png`), fullPage: true })
  await page.close()
}
