// A machine goes to sleep in the middle of a call, and wakes: soon, late, or too late.

import { afterAll, beforeAll, describe, expect } from 'vitest'
import { seeAndHearEachOther } from '../media.ts'
import type { People } from '../people.ts'
import { connect, type Person } from '../person.ts'
import { scene } from '../scene.ts'
import { Sleeper } from './sleeper.ts'
import { healed, times } from './table.ts'
import { areJoined, endsAsOne, pastCalls, rests } from './talk.ts'
import { moves, movesSince } from './watch.ts'

const waits = /^The connection was interrupted\. Trying again…|^Ann’s connection dropped\. Waiting…/
const lost = 'The connection was lost and did not come back.'

describe.each(['chromium', 'firefox'] as const)('a machine with %s', (browser) => {
  let machine: Sleeper
  beforeAll(async () => {
    machine = await Sleeper.start(browser)
  })
  afterAll(() => machine.stop())

  async function talk(people: People): Promise<[Person, Person]> {
    people.forgive(/WebRTC: ICE failed/) // Firefox says so of the connection that it slept through
    const ann = await people.enter('Ann', { browser: machine.browser, direct: true })
    const bob = await people.enter('Bob', { direct: true })
    await connect(ann, bob)
    await seeAndHearEachOther(ann, bob)
    return [ann, bob]
  }

  for (const [seconds, tries] of [
    [8, times(5)],
    [45, times(3, 0)],
  ] as const) {
    if (tries === 0) continue
    scene(`sleeps for ${seconds} s`, async ({ people }) => {
      const [ann, bob] = await talk(people)
      const ms: number[] = []
      for (let i = 0; i < tries; i++) {
        const woke = await machine.sleepsWhile(async () => {
          const slept = performance.now()
          await bob.reads(waits)
          await rests(seconds * 1000 - (performance.now() - slept))
          await bob.reads(waits)
        })
        await Promise.all([moves(ann), moves(bob)])
        await bob.readsNoMore(waits)
        await areJoined(ann, bob)
        ms.push((await movesSince(ann, bob)) - woke)
      }
      await healed(`${browser}: machine slept for ${seconds} s: pictures again, from waking`, ms)
      await seeAndHearEachOther(ann, bob)
      await endsAsOne(ann, bob, seconds)
    })
  }

  if (times(1, 0) > 0) {
    scene('sleeps for longer than it is waited for', async ({ people }) => {
      const [ann, bob] = await talk(people)
      const woke = await machine.sleepsWhile(async () => {
        const slept = performance.now()
        await bob.reads(waits)
        // A minute from when the other one misses media, or from when the server misses the connection, which takes it as long.
        await bob.page
          .getByText(lost)
          .filter({ visible: true })
          .first()
          .waitFor({ timeout: 130_000 })
        await healed(`${browser}: machine slept: the other one knows that the call is over`, [
          performance.now() - slept,
        ])
        await rests(10_000)
      })
      await ann.reads(lost)
      await healed(`${browser}: machine slept for too long: it knows that the call is over`, [
        Date.now() - woke,
      ])
      for (const person of [ann, bob]) {
        const calls = await pastCalls(person)
        expect(calls.map(({ reason }) => reason)).toEqual(['lost'])
      }
      // Nothing of it is left: the next one is a call like any other.
      await connect(bob, ann)
      await seeAndHearEachOther(ann, bob)
    })
  }
})
