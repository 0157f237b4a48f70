// A call between two machines, of which one gets another address, or loses UDP. Needs root, for network namespaces.

import { afterAll, beforeAll, describe, expect } from 'vitest'
import { path, seeAndHearEachOther } from '../media.ts'
import type { People } from '../people.ts'
import { connect, type Person } from '../person.ts'
import { scene } from '../scene.ts'
import { everywhere, Machine, middle } from './network.ts'
import { healed, times } from './table.ts'
import { mind, moves, standstill } from './watch.ts'

// What the relay may reach, though it is private.
Object.assign(process.env, { VISAVIS_RELAY_ALLOW: everywhere })

describe('between two machines', () => {
  const address = `${middle}:8080`
  scene.override('address', address)
  scene.override('flags', ['--access', 'open', '--origins', `http://${address}`])

  let ann: Machine
  let bob: Machine
  beforeAll(async () => {
    ann = await Machine.build('ann', 1)
    bob = await Machine.build('bob', 2)
  })
  afterAll(async () => {
    await ann.remove()
    await bob.remove()
  })

  async function talk(people: People, origin: string): Promise<[Person, Person]> {
    const caller = await people.enter('Ann', { browser: await ann.browser(origin), direct: true })
    const callee = await people.enter('Bob', { browser: await bob.browser(origin), direct: true })
    await connect(caller, callee)
    await seeAndHearEachOther(caller, callee)
    return [caller, callee]
  }

  scene('one goes over to another network', async ({ people, server }) => {
    people.forgive(/WebSocket|ERR_|Failed to load resource/)
    const [caller, callee] = await talk(people, server.origin)
    const ms: number[] = []
    for (let i = 0; i < times(20, 2); i++) {
      await mind(caller, callee)
      await ann.switch()
      await Promise.all([moves(caller), moves(callee)])
      ms.push(await standstill(caller, callee))
      // Both have settled, the connection to the server as well.
      await caller.press('Mute')
      await callee.reads('Ann’s microphone is off')
      await caller.press('Mute')
      await callee.readsNoMore('Ann’s microphone is off')
    }
    await healed('network switched: standstill of the picture', ms)
    await seeAndHearEachOther(caller, callee)
  })

  scene('UDP is blocked', async ({ people, server }) => {
    const [caller, callee] = await talk(people, server.origin)
    const ms: number[] = []
    for (let i = 0; i < times(5); i++) {
      await mind(caller, callee)
      await ann.blockUDP()
      try {
        await Promise.all([moves(caller), moves(callee)])
      } finally {
        await ann.unblock()
      }
      ms.push(await standstill(caller, callee))
      await moves(caller)
    }
    await healed('UDP blocked: standstill of the picture, then over TCP', ms)
  })

  scene('STUN passes, media does not', async ({ people, server }) => {
    const [caller, callee] = await talk(people, server.origin)
    await mind(caller, callee)
    await ann.blockMedia()
    try {
      await Promise.all([moves(caller), moves(callee)])
      await healed('media blocked: standstill of the picture, then over the relay', [
        await standstill(caller, callee),
      ])
      expect(await path(caller)).toMatchObject({ local: 'relay' })
      await caller.press('Hang up')
      await callee.reads('Ann hung up.')
      // The next call on this network needs no second try.
      await caller.page.getByRole('button', { name: 'Close' }).click()
      await connect(caller, callee)
      await mind(caller, callee)
      await seeAndHearEachOther(caller, callee)
      await healed('media blocked: standstill of the picture in the next call', [
        await standstill(caller, callee),
      ])
      expect(await path(caller)).toMatchObject({ local: 'relay' })
    } finally {
      await ann.unblock()
    }
  })
})
