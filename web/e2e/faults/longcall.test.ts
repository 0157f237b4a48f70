// A relayed call that is far older than its first relay credentials, and then loses a mapping, a network and its relay.
// Needs root, for network namespaces.

import { afterAll, beforeAll, describe, expect } from 'vitest'
import { path, seeAndHearEachOther } from '../media.ts'
import { connect } from '../person.ts'
import { others, Relay } from '../relays.ts'
import { scene } from '../scene.ts'
import { everywhere, Machine, middle } from './network.ts'
import { healed } from './table.ts'
import { noServer, rests } from './talk.ts'
import { mind, moves, standstill } from './watch.ts'

const credentialSeconds = 17
const lifetimes = 3

describe('with two relays, between two machines', async () => {
  const address = `${middle}:8080`
  const at = ['--relay-listen', `${middle}:0`, '--relay-allow', everywhere]
  const relays = [await Relay.start(...at), await Relay.start(...at)] as const
  scene.override('address', address)
  scene.override('flags', [
    ...['--access', 'open', '--origins', `http://${address}`],
    ...['--relay-credential-seconds', String(credentialSeconds), '--call-ring-seconds', '7'],
    ...others('udp', ...relays),
  ])
  scene.override(
    'reaches',
    relays.map((relay) => relay.port('udp')),
  )

  let ann: Machine
  let bob: Machine
  beforeAll(async () => {
    ann = await Machine.build('annold', 3)
    bob = await Machine.build('bobold', 4)
    await ann.translate()
  })
  afterAll(async () => {
    await ann.remove()
    await bob.remove()
    for (const relay of relays) await relay.kill()
  })

  scene('a call is older than its relay credentials', async ({ people, server }) => {
    people.forgive(noServer, /ERR_|was to use the ICE server turn:10\.77\./)
    const { origin } = server
    const caller = await people.enter('Ann', { relay: 'udp', browser: await ann.browser(origin) })
    const callee = await people.enter('Bob', { relay: 'udp', browser: await bob.browser(origin) })
    const rung = performance.now()
    await connect(caller, callee)
    await seeAndHearEachOther(caller, callee)
    await rests(lifetimes * credentialSeconds * 1000 - (performance.now() - rung))

    const faults: [string, () => Promise<void>][] = [
      ['mapping lost', () => ann.translate()],
      ['network switched', () => ann.switch()],
      [
        'relay gone',
        async () => {
          const { url } = await path(caller)
          const used = relays.find((relay) => relay.url('udp') === url)
          if (!used) throw new Error(`Ann uses the relay ${url}`)
          await used.kill()
        },
      ],
    ]
    for (const [fault, breaks] of faults) {
      await mind(caller, callee)
      await breaks()
      await Promise.all([moves(caller), moves(callee)])
      await healed(`${fault}, after ${lifetimes} lifetimes of relay credentials`, [
        await standstill(caller, callee),
      ])
      expect(await path(caller)).toMatchObject({ local: 'relay' })
      await seeAndHearEachOther(caller, callee)
    }
  })
})
