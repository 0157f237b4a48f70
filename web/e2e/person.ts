import type { Locator, Page } from 'playwright-core'
import type { Party } from './media.ts'
import { patienceMs } from './until.ts'

/** Somebody with our page open, who finds things by the names that a person would use. */
export class Person implements Party {
  readonly name: string
  readonly page: Page

  constructor(name: string, page: Page) {
    this.name = name
    this.page = page
    page.setDefaultTimeout(patienceMs)
  }

  /** Goes in at the door. */
  async enters(): Promise<void> {
    await this.knocks()
    await this.isHome()
  }

  /** Says their name at the door. */
  async knocks(): Promise<void> {
    await this.page.getByRole('textbox', { name: 'Your name' }).fill(this.name)
    await this.press('Come in')
  }

  async isHome(): Promise<void> {
    await this.page.getByRole('navigation', { name: 'Sections' }).waitFor()
  }

  button(name: string): Locator {
    return this.page.getByRole('button', { name, exact: true })
  }

  /** Presses a button. Those of a call hide while the mouse rests. */
  async press(name: string): Promise<void> {
    await this.page.mouse.move(200, 200)
    await this.page.mouse.move(220, 220)
    await this.button(name).click()
  }

  async calls(peer: Pick<Party, 'name'>): Promise<void> {
    await this.press(`Call ${peer.name}`)
  }

  /** It rings here, and the page says who it is. */
  async isRungBy(peer: Pick<Party, 'name'>): Promise<void> {
    const screen = this.page.getByRole('main', { name: `${peer.name} is calling` })
    await screen.getByRole('heading', { name: peer.name, exact: true }).waitFor()
  }

  async accepts(peer: Pick<Party, 'name'>): Promise<void> {
    await this.isRungBy(peer)
    await this.press('Accept')
  }

  /** The devices that did not start would start now. */
  async getsDevices(): Promise<void> {
    await this.page.evaluate(() => window.giveDevices())
  }

  /** The switch on Me that rings this device while the page is closed. */
  ringsWhenClosed(): Locator {
    return this.page.getByRole('switch', { name: 'Ring this device when the page is closed' })
  }

  picture(of: string): Locator {
    return this.page.getByRole('region', { name: `Picture of ${of}` }).locator('video')
  }

  sound(): Locator {
    return this.page.locator('main audio')
  }

  /** The page says so, somewhere where it can be seen. */
  async reads(text: string | RegExp): Promise<void> {
    await this.#shown(text).waitFor()
  }

  /** The page does not say so, or does not any more. */
  async readsNoMore(text: string | RegExp): Promise<void> {
    await this.#shown(text).waitFor({ state: 'hidden' })
  }

  /** The list of past calls has one at its top that is like this. */
  async remembers(...words: (string | RegExp)[]): Promise<void> {
    // Its name tells how many calls were missed, too.
    await this.page.getByRole('button', { name: /^Recents/u }).click()
    let row = this.page.getByRole('main').getByRole('listitem').first()
    for (const hasText of words) row = row.filter({ hasText })
    await row.waitFor()
  }

  // Phone and desktop have some sentences each in their own place, one of them hidden.
  #shown(text: string | RegExp): Locator {
    return this.page.getByText(text).filter({ visible: true }).first()
  }
}

/** One calls, the other accepts. */
export async function connect(caller: Person, callee: Person): Promise<void> {
  await caller.calls(callee)
  await callee.accepts(caller)
}
