import type { Locator } from 'playwright-core'
import { expect } from 'vitest'
import { hearsNothing, seeAndHearEachOther } from './media.ts'
import type { Person } from './person.ts'
import { scene } from './scene.ts'

const tabsAtMost = 30

scene('the whole journey, by keyboard only', async ({ people }) => {
  const ann = await people.come('Ann')
  const bob = await people.come('Bob')
  for (const person of [ann, bob]) {
    await tabTo(person, person.page.getByRole('textbox', { name: 'Your name' }))
    await person.page.keyboard.type(person.name)
    await person.page.keyboard.press('Enter')
    await person.isHome()
  }

  // A list is one Tab stop: from there the arrow keys lead on.
  await tabTo(ann, ann.page.locator('.row-main'))
  await ann.page.keyboard.press('ArrowRight')
  await ann.page.keyboard.press('ArrowRight')
  expect(await ann.button('Call Bob').evaluate((b) => b === document.activeElement)).toBe(true)
  await ann.page.keyboard.press('Enter')
  await bob.isRungBy(ann)
  await strike(bob, 'Accept')
  await seeAndHearEachOther(ann, bob)

  await strike(ann, 'Mute')
  await hearsNothing(bob)
  await strike(ann, 'Mute')
  await strike(bob, 'Camera')
  await ann.reads('Bob’s camera is off')
  await strike(bob, 'Hang up')
  await ann.reads('Bob hung up.')

  await strike(bob, 'Video call again')
  await ann.isRungBy(bob)
  await strike(ann, 'Decline')
  await bob.reads('Ann declined.')
})

async function strike(person: Person, button: string): Promise<void> {
  await tabTo(person, person.button(button))
  await person.page.keyboard.press('Enter')
}

/** Presses Tab until the focus is there, where it must be seen. */
async function tabTo({ name, page }: Person, target: Locator): Promise<void> {
  await target.waitFor()
  for (let tabs = 0; tabs <= tabsAtMost; tabs++) {
    const focus = await target.evaluate((element) => {
      if (element !== document.activeElement) return undefined
      const marks = [element, ...element.querySelectorAll('*')].map((e) => getComputedStyle(e))
      return {
        isMarked: element.matches(':focus-visible'),
        isSeen: marks.some(
          (style) =>
            (style.outlineStyle !== 'none' && Number.parseFloat(style.outlineWidth) > 0) ||
            style.boxShadow !== 'none',
        ),
      }
    })
    if (focus) {
      expect(focus).toEqual({ isMarked: true, isSeen: true })
      return
    }
    await page.keyboard.press('Tab')
  }
  throw new Error(`${name} cannot get to ${target} by ${tabsAtMost} tabs`)
}
