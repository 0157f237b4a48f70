import { describe, expect } from 'vitest'
import type { ForeignWays } from './foreign.ts'
import { seeAndHearEachOther } from './media.ts'
import { scene } from './scene.ts'

const ways: ForeignWays[] = [
  { media: 'streams', transport: 'websocket' },
  { media: 'tracks', transport: 'polling' },
]

describe.each(ways)('a page with socket.io-client, $media over $transport', (way) => {
  scene('calls our page', async ({ people }) => {
    const ann = await people.enterForeign('Ann', way)
    const bob = await people.enter('Bob')
    await ann.calls(bob)
    await bob.accepts(ann)
    await seeAndHearEachOther(ann, bob)
    await bob.press('Hang up')
    await bob.reads('You hung up.')
    expect(await ann.isTold('ended')).toMatchObject({ data: { reason: 'hungup' } })
    await bob.remembers('Ann', 'Incoming')
  })

  scene('is called by our page', async ({ people }) => {
    const ann = await people.enter('Ann')
    const bob = await people.enterForeign('Bob', way)
    await ann.calls(bob)
    await seeAndHearEachOther(ann, bob)
    await ann.press('Hang up')
    await ann.reads('You hung up.')
    expect(await bob.isTold('ended')).toMatchObject({ data: { reason: 'hungup' } })
    await ann.remembers('Bob', 'Outgoing')
  })

  scene('calls another such page', async ({ people }) => {
    const ann = await people.enterForeign('Ann', way)
    const bob = await people.enterForeign('Bob', way)
    await ann.calls(bob)
    await seeAndHearEachOther(ann, bob)
    await bob.disconnects()
    expect(await ann.isTold('ended')).toMatchObject({ data: { reason: 'hungup' } })
  })
})

describe('a page with socket.io-client', () => {
  scene('calls one that is written in another way', async ({ people }) => {
    const ann = await people.enterForeign('Ann', { media: 'tracks', transport: 'websocket' })
    const bob = await people.enterForeign('Bob', { media: 'streams', transport: 'polling' })
    await ann.calls(bob)
    await seeAndHearEachOther(ann, bob)
  })

  scene('is told when nobody of that name is here', async ({ people }) => {
    const ann = await people.enterForeign('Ann', { media: 'tracks', transport: 'websocket' })
    await ann.calls({ name: 'Nobody' })
    await ann.isTold('ended', 'error')
  })

  scene('is told when our page declines', async ({ people }) => {
    const ann = await people.enterForeign('Ann', { media: 'streams', transport: 'polling' })
    const bob = await people.enter('Bob')
    await ann.calls(bob)
    await bob.isRungBy(ann)
    await bob.press('Decline')
    expect(await ann.isTold('ended')).toMatchObject({ data: { reason: 'declined' } })
  })
})
