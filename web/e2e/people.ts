import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { type BrowserName, type Browsers, out } from './browsers.ts'
import { ForeignPerson, type ForeignSite, type ForeignWays } from './foreign.ts'
import { iceServersMark, observe, type Wishes } from './observed.ts'
import { Person } from './person.ts'
import type { Server } from './server.ts'

export interface Arrival extends Wishes {
  readonly browser?: BrowserName | Browser
  /** Where the page is got from, if not from the server itself. */
  readonly origin?: string
}

/** Those who take part in one test, each in a browser context of their own, and what their pages did wrong. */
export class People {
  /** Whatever the pages asked for, WebSockets too. */
  readonly requests: string[] = []
  /** Whatever the pages were to use as ICE servers. */
  readonly iceServers: string[] = []

  readonly #browsers: Browsers
  readonly #server: Server
  readonly #foreign: ForeignSite
  readonly #here: { readonly name: string; readonly context: BrowserContext }[] = []
  readonly #wrong: string[] = []
  readonly #forgiven: RegExp[] = []

  constructor(browsers: Browsers, server: Server, foreign: ForeignSite) {
    this.#browsers = browsers
    this.#server = server
    this.#foreign = foreign
  }

  /** Opens the page, at whose door this person then stands. */
  async come(name: string, arrival: Arrival = {}): Promise<Person> {
    const page = await this.#open(name, arrival.origin ?? this.#server.origin, arrival)
    return new Person(name, page)
  }

  /** Opens the page and goes in. */
  async enter(name: string, arrival: Arrival = {}): Promise<Person> {
    const person = await this.come(name, arrival)
    await person.enters()
    return person
  }

  /** Opens a second window for somebody, whom the page knows already. */
  async openAgain(person: Person): Promise<Person> {
    const page = await person.page.context().newPage()
    this.#watch(person.name, page, this.#server.origin)
    await page.goto(this.#server.origin)
    const window = new Person(person.name, page)
    await window.isHome()
    return window
  }

  /** Opens a copy of somebody's tab: the same page, with what that keeps for a reload. */
  async duplicate(person: Person): Promise<Person> {
    const [page] = await Promise.all([
      person.page.waitForEvent('popup'),
      person.page.evaluate(() => {
        sessionStorage.setItem('e2e', 'copied')
        window.open(location.href)
      }),
    ])
    this.#watch(person.name, page, this.#server.origin)
    const copy = new Person(person.name, page)
    await copy.isHome()
    if ((await page.evaluate(() => sessionStorage.getItem('e2e'))) !== 'copied') {
      throw new Error('the browser has copied nothing')
    }
    return copy
  }

  /** Opens a page that was written with socket.io-client and knows nothing of ours. */
  async enterForeign(name: string, ways: ForeignWays): Promise<ForeignPerson> {
    const address = this.#foreign.address(name, this.#server.origin, ways)
    const person = new ForeignPerson(name, await this.#open(name, address, {}))
    await person.enters()
    return person
  }

  /** What a page says like this is no fault of it: the test breaks something. */
  forgive(...said: readonly RegExp[]): void {
    this.#forgiven.push(...said)
  }

  /** Ends all pages and tells what was wrong with them. */
  async leave(): Promise<string[]> {
    for (const { context } of this.#here) await context.close()
    for (const url of this.iceServers) {
      if (!this.#server.relayURLs.includes(url)) {
        this.#wrong.push(`a page was to use the ICE server ${url}`)
      }
    }
    return this.#wrong.filter((wrong) => !this.#forgiven.some((said) => said.test(wrong)))
  }

  /** Leaves a picture of each page where a person can look at it. */
  async keepPictures(of: string): Promise<void> {
    const folder = join(out, 'failed', of.replace(/[^\p{L}\p{N}]+/gu, '-'))
    await mkdir(folder, { recursive: true })
    await writeFile(join(folder, 'server.log'), this.#server.log)
    for (const { name, context } of this.#here) {
      for (const page of context.pages()) {
        await page
          .screenshot({ path: join(folder, `${name}.png`), caret: 'initial', timeout: 5000 })
          .catch(() => undefined)
      }
    }
  }

  async #open(name: string, address: string, arrival: Arrival): Promise<Page> {
    const { browser: wanted = 'chromium' } = arrival
    const browser = typeof wanted === 'string' ? await this.#browsers.get(wanted) : wanted
    const context = await browser.newContext({
      viewport: { width: 1280, height: 800 },
      locale: 'en-US',
    })
    this.#here.push({ name, context })
    const { browser: _, origin: __, ...wishes } = arrival
    await observe(context, wishes)
    const page = await context.newPage()
    this.#watch(name, page, new URL(address).origin)
    await page.goto(address)
    return page
  }

  #watch(name: string, page: Page, origin: string): void {
    const asked = (url: string) => {
      this.requests.push(url)
      const { protocol, host } = new URL(url)
      if (protocol === 'blob:' || protocol === 'data:') return
      const from = `${protocol.replace('ws', 'http')}//${host}`
      if (from !== this.#server.origin && from !== origin) {
        this.#wrong.push(`${name}'s page asked for ${url}`)
      }
    }
    page.on('request', (request) => asked(request.url()))
    // Chromium does not list these among the requests; Firefox does, as http.
    page.on('websocket', (socket) => asked(socket.url()))
    page.on('console', (message) => {
      const text = message.text()
      if (text.startsWith(iceServersMark)) {
        this.iceServers.push(...(JSON.parse(text.slice(iceServersMark.length)) as string[]))
        return
      }
      if (['error', 'warning', 'assert'].includes(message.type())) {
        this.#wrong.push(`${name}'s console, ${message.type()}: ${text}`)
      }
    })
    page.on('pageerror', (error) => this.#wrong.push(`${name}'s page: ${String(error)}`))
    // A page in a call asks before it is left: a reload, in a test, is meant.
    page.on('dialog', (dialog) => {
      if (dialog.type() === 'beforeunload') void dialog.accept().catch(() => undefined)
      else this.#wrong.push(`${name}'s page asks: ${dialog.message()}`)
    })
    page.on('crash', () => this.#wrong.push(`${name}'s page crashed`))
  }
}
