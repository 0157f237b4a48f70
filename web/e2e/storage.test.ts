import { expect } from 'vitest'
import { seeAndHearEachOther } from './media.ts'
import { connect } from './person.ts'
import { scene } from './scene.ts'

for (const browser of ['chromium', 'firefox'] as const) {
  scene(
    `a page without storage works, and its person has their name back: ${browser}`,
    async ({ people }) => {
      const ann = await people.come('Ann', { browser })
      await ann.page.addInitScript(() => {
        for (const name of ['localStorage', 'sessionStorage']) {
          Object.defineProperty(window, name, {
            get: () => {
              throw new DOMException('The operation is insecure.', 'SecurityError')
            },
          })
        }
      })
      await ann.page.reload()
      await ann.enters()
      const bob = await people.enter('Bob')
      await connect(ann, bob)
      await seeAndHearEachOther(ann, bob)
      await ann.press('Hang up')
      await bob.reads('Ann hung up.')

      await ann.page.reload()
      await ann.enters()
      expect(await ann.page.getByText('Somebody here has that name already').count()).toBe(0)
    },
  )
}

scene('a page whose storage is full comes in', async ({ people }) => {
  const ann = await people.come('Ann')
  await ann.page.addInitScript(() => {
    Storage.prototype.setItem = () => {
      throw new DOMException('The quota has been exceeded.', 'QuotaExceededError')
    }
  })
  await ann.page.reload()
  await ann.enters()
  await ann.press('Me')
  await ann.page.getByRole('switch', { name: 'Do not disturb' }).click()
  await ann.press('People')
  await ann.reads('Do not disturb is on.')
})
