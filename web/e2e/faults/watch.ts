// How the picture that somebody sees fares while something is broken.

import type { Watched } from '../observed.ts'
import { patienceMs, until } from '../until.ts'

const pauseMs = 30

/** A page that can be asked. */
export interface Evaluates {
  evaluate(look: () => Watched): Promise<Watched>
}

interface Watcher {
  readonly name: string
  readonly page: Evaluates
}

// More than can be under way in a network, or wait in a page, when the way there breaks.
const framesAtLeast = 20

/** The picture moves, from now on. */
export async function moves({ page, name }: Watcher, least = framesAtLeast): Promise<void> {
  const { frames } = await look(page)
  await until(
    `the picture that ${name} sees moves`,
    () => look(page),
    (now) => now.frames >= frames + least,
    patienceMs,
    pauseMs,
  )
}

/** How long after its load the page showed the first picture. */
export async function firstPicture({ page, name }: Watcher): Promise<number> {
  const { first } = await until(
    `${name}'s page shows a picture`,
    () => look(page),
    (now) => now.first !== undefined,
    patienceMs,
    pauseMs,
  )
  return first ?? 0
}

/** From here on the longest standstill is measured. */
export async function mind(...people: readonly Watcher[]): Promise<void> {
  for (const { page } of people) {
    await page.evaluate(() => {
      window.watched.still = 0
      window.watched.last = performance.now()
      return window.watched
    })
  }
}

/** The longest that a picture stood still for any of them, since it was minded. */
export async function standstill(...people: readonly Watcher[]): Promise<number> {
  return Math.max(
    ...(await Promise.all(people.map(({ page }) => look(page)))).map(({ still }) => still),
  )
}

/** Since when the picture moves as it does now, for all of them, by Date.now(). */
export async function movesSince(...people: readonly Watcher[]): Promise<number> {
  return Math.max(
    ...(await Promise.all(people.map(({ page }) => look(page)))).map(({ since }) => since),
  )
}

function look(page: Evaluates): Promise<Watched> {
  return page.evaluate(() => window.watched)
}
