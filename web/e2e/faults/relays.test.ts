// A relay that stands alone, and goes in the middle of a call that needs one.

import { describe } from 'vitest'
import { seeAndHearEachOther } from '../media.ts'
import { connect } from '../person.ts'
import { others, Relay } from '../relays.ts'
import { scene } from '../scene.ts'
import { healed } from './table.ts'
import { rests } from './talk.ts'
import { mind, moves, standstill } from './watch.ts'

describe('with two relays', async () => {
  const relays = [await Relay.start(), await Relay.start()] as const
  scene.override('flags', others('udp', ...relays))
  scene.override(
    'reaches',
    relays.map((relay) => relay.port('udp')),
  )

  scene('the one that a call uses is gone', async ({ people, onTestFinished }) => {
    onTestFinished(async () => {
      for (const relay of relays) await relay.kill()
    })
    people.forgive(/was to use the ICE server turn:127\.0\.0\.1/)
    const ann = await people.enter('Ann', { relay: 'udp' })
    const bob = await people.enter('Bob', { relay: 'udp' })
    await connect(ann, bob)
    await seeAndHearEachOther(ann, bob)
    // The two have just agreed on a better path, which has 3 s before they look for another.
    await rests(3000)
    await mind(ann, bob)
    await relays[0].kill()
    await Promise.all([moves(ann), moves(bob)])
    await healed('relay gone: standstill of the picture, then over the other one', [
      await standstill(ann, bob),
    ])
    await seeAndHearEachOther(ann, bob)
  })
})
