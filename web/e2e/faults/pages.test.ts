// Pages that come and go in a way that a call must not mind: one is closed right after it has hung up, another is duplicated.

import { describe, expect } from 'vitest'
import { seeAndHearEachOther } from '../media.ts'
import { connect, type Person } from '../person.ts'
import { scene } from '../scene.ts'
import { healed, times } from './table.ts'
import { areJoined, talk } from './talk.ts'
import { firstPicture, mind, moves, standstill } from './watch.ts'
import { Wire } from './wire.ts'

describe.each(['chromium', 'firefox'] as const)('a page of %s', (browser) => {
  // Socket, data channel, beacon: of the three ways of a hang-up only the last is left.
  scene(
    'says by beacon that it hung up, and is closed',
    async ({ people, server, onTestFinished }) => {
      const wire = await Wire.to(server.origin)
      onTestFinished(() => wire.close())
      const bob = await people.enter('Bob')
      const ms: number[] = []
      for (const name of ['Ann', 'Amy', 'Ida', 'Eve', 'Una'].slice(0, times(5))) {
        const ann = await people.enter(name, { browser, origin: wire.origin })
        await connect(ann, bob)
        await seeAndHearEachOther(ann, bob)
        await ann.page.evaluate(() => {
          for (const channel of window.channels) channel.close()
        })
        wire.holdSignaling()
        const held = wire.heldBytes
        const asked = wire.asked.length
        const begin = performance.now()
        await ann.press('Hang up')
        await ann.page.close()
        await bob.reads(`${name} hung up.`)
        ms.push(performance.now() - begin)
        // The word on the socket is in the wire still, nothing was heard on a data channel, and all that came through, but for
        // the page's question for past calls, is the beacon.
        expect(wire.heldBytes).toBeGreaterThan(held)
        const came = wire.asked.slice(asked).filter((each) => !each.startsWith('GET /v1/calls'))
        expect([...new Set(came)]).toEqual(['POST /v1/hangup'])
        expect(await bob.page.evaluate(() => window.words)).toEqual([])
        wire.letGo()
        await bob.page.getByRole('button', { name: 'Close' }).click()
        await bob.remembers(name, 'Incoming')
      }
      await healed(`${browser}: hung up by beacon alone, page closed: the other knows`, ms)
    },
  )

  scene('is duplicated', async ({ people }) => {
    const [ann, bob] = await talk(people, browser)
    const connections = (...people: Person[]) =>
      Promise.all(people.map(({ page }) => page.evaluate(() => window.connections.length)))
    const before = await connections(ann, bob)
    await mind(bob)
    const copy = await people.duplicate(ann)
    // A copy that took the call would have done so by now, as it would when it is loaded anew.
    await moves(bob)
    await copy.page.reload()
    await copy.isHome()
    await moves(bob)
    // Behind the copy the original shows no picture.
    await healed(`${browser}: tab duplicated: longest standstill of what the other one sees`, [
      await standstill(bob),
    ])
    await ann.page.bringToFront()
    await areJoined(ann, bob)
    expect(await connections(ann, bob, copy)).toEqual([...before, 0])
    await seeAndHearEachOther(ann, bob)

    // What the original left for its own reload is still its own.
    await ann.page.reload({ waitUntil: 'commit' })
    await healed(`${browser}: tab duplicated, original loaded anew: from load to picture`, [
      await firstPicture(ann),
    ])
    await moves(bob)
    await bob.press('Hang up')
    await ann.reads('Bob hung up.')

    // Two sessions: both are rung, and each may take the call.
    await bob.page.getByRole('button', { name: 'Close' }).click()
    await bob.calls(ann)
    await ann.isRungBy(bob)
    await copy.page.bringToFront()
    await copy.accepts(bob)
    await ann.reads('Answered in another tab.')
    await seeAndHearEachOther(copy, bob)
  })
})
