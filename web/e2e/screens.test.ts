// Leaves pictures of every screen in out/ for a person to look at, and lets axe-core judge them.

import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import axe, { type AxeResults } from 'axe-core'
import { afterAll, describe, expect } from 'vitest'
import { out } from './browsers.ts'
import { seeAndHearEachOther } from './media.ts'
import { connect, type Person } from './person.ts'
import { scene } from './scene.ts'

const sizes = [
  { width: 360, height: 740 },
  { width: 1280, height: 800 },
]
const schemes = ['light', 'dark'] as const

describe('screens', () => {
  // Nobody waits for a photographer.
  scene.override('flags', ['--call-ring-seconds', '180'])

  afterAll(() => console.info(`The pictures are in ${out}`))

  scene('before and between calls', async ({ people }) => {
    const ann = await people.come('Ann Miller')
    await look(ann, 'door')
    await ann.enters()
    await ann.reads('Nobody else is here yet')
    await look(ann, 'home-empty')
    await ann.press('Me')
    await look(ann, 'home-me')
    await ann.press('Recents')
    await ann.reads('No calls yet')
    await look(ann, 'home-no-recents')
    await ann.press('People')
    const bob = await people.enter('Bob Chen')
    const cid = await people.enter('Cid')
    await people.enter('Dörte Ünal-Ångström')
    await people.enter('王小明')
    await bob.calls(cid)
    await cid.isRungBy(bob)
    await ann.reads('In a call')
    await look(ann, 'home-people')
  })

  scene('of a call', async ({ people }) => {
    const ann = await people.enter('Ann Miller')
    const bob = await people.enter('Bob Chen')
    await ann.calls(bob)
    await bob.isRungBy(ann)
    await look(bob, 'ringing-in')
    await ann.reads('Ringing…')
    await look(ann, 'ringing-out')
    await bob.accepts(ann)
    await seeAndHearEachOther(ann, bob)
    await look(ann, 'call')
    await bob.press('Camera')
    await bob.press('Mute')
    await ann.reads('Bob Chen’s camera and microphone are off')
    await look(ann, 'call-camera-off')
    await bob.press('Hang up')
    await ann.reads('Bob Chen hung up.')
    // The card goes by itself, but not while somebody is at it.
    await ann.button('Video call again').focus()
    await look(ann, 'after')
    await ann.press('Recents')
    await ann.reads(/^\d+ (sec|min)/)
    await look(ann, 'home-recents')
  })

  scene('of a call with trouble', async ({ people }) => {
    const devices = { audio: 'NotFoundError', video: 'NotReadableError' }
    const ann = await people.enter('Ann Miller', { devices })
    const bob = await people.enter('Bob Chen')
    await connect(ann, bob)
    await ann.reads('Your camera is used by another program.')
    await look(ann, 'call-no-devices')
    await bob.page.close()
    await ann.reads(/Bob Chen is reloading the page|Bob Chen may have closed the page/)
    await look(ann, 'call-reconnecting')
  })
})

/** Takes a picture in each size and colour scheme, and lets axe-core look, too. */
async function look({ page }: Person, screen: string): Promise<void> {
  await mkdir(out, { recursive: true })
  const wrong: string[] = []
  for (const size of sizes) {
    await page.setViewportSize(size)
    for (const colorScheme of schemes) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
      await page.mouse.move(100, 100)
      await page.mouse.move(110, 110)
      await settled(page)
      const name = `${screen}-${size.width}x${size.height}-${colorScheme}`
      await page.screenshot({ path: join(out, `${name}.png`), caret: 'initial' })
      for (const { id, impact, help, nodes } of await violations(page)) {
        const where = nodes.map(({ target }) => target.join(' ')).join(', ')
        wrong.push(`${name}: ${id} (${impact}): ${help}: ${where}`)
      }
    }
  }
  expect(wrong).toEqual([])
}

/** All transitions are over; what moves for ever, such as the ringing pulse, is not waited for. */
async function settled(page: Person['page']): Promise<void> {
  await page.evaluate(() => {
    const finite = document.getAnimations().filter((animation) => {
      return animation.effect?.getComputedTiming().endTime !== Number.POSITIVE_INFINITY
    })
    return Promise.allSettled(finite.map(({ finished }) => finished)).then(() => undefined)
  })
}

async function violations(page: Person['page']): Promise<AxeResults['violations']> {
  if (await page.evaluate(() => !('axe' in window))) await page.evaluate(axe.source)
  return await page.evaluate(async () => (await window.axe.run()).violations)
}

declare global {
  interface Window {
    axe: typeof axe
  }
}
