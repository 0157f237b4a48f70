import { describe } from 'vitest'
import type { BrowserName } from './browsers.ts'
import { seeAndHearEachOther } from './media.ts'
import { connect } from './person.ts'
import { scene } from './scene.ts'

const pairs: [BrowserName, BrowserName][] = [
  ['chromium', 'firefox'],
  ['firefox', 'chromium'],
]

describe.each(pairs)('%s calls %s', (caller, callee) => {
  scene('and both see and hear', async ({ people }) => {
    const ann = await people.enter('Ann', { browser: caller })
    const bob = await people.enter('Bob', { browser: callee })
    await connect(ann, bob)
    await seeAndHearEachOther(ann, bob)
    await ann.press('Hang up')
    await ann.reads('You hung up.')
    await bob.reads('Ann hung up.')
  })
})
