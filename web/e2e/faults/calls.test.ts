// A call, and what breaks while it rings or goes on. Each test says how long it took until both had it back.

import { describe, expect } from 'vitest'
import { hears, seeAndHearEachOther } from '../media.ts'
import { connect, type Person } from '../person.ts'
import { scene } from '../scene.ts'
import { patienceMs, until } from '../until.ts'
import { healed, times } from './table.ts'
import { areJoined, endsAsOne, noServer, rests, talk } from './talk.ts'
import { type Evaluates, firstPicture, mind, moves, standstill } from './watch.ts'
import { Wire } from './wire.ts'

describe('the server', () => {
  scene('is killed and started again, in one call', async ({ people, server }) => {
    people.forgive(noServer)
    const [ann, bob] = await talk(people)
    const begin = performance.now()
    const joined: number[] = []
    await mind(ann, bob)
    for (let i = 0; i < times(5, 2); i++) {
      await server.kill()
      await rests(300)
      await server.restart()
      const up = performance.now()
      await areJoined(i % 2 ? ann : bob, i % 2 ? bob : ann)
      joined.push(performance.now() - up)
    }
    await healed('server killed: a word passes again, from its start', joined)
    await healed('server killed: longest standstill of the picture', [await standstill(ann, bob)])
    await seeAndHearEachOther(ann, bob)
    await endsAsOne(ann, bob, (performance.now() - begin) / 1000)
  })

  scene.for(['chromium', 'firefox'] as const)(
    'is away for half a minute, from a page of %s',
    async (browser, { people, server }) => {
      people.forgive(noServer)
      const [ann, bob] = await talk(people, browser)
      await mind(ann, bob)
      await server.kill()
      await rests(times(30, 5) * 1000)
      await server.restart()
      const up = performance.now()
      await areJoined(ann, bob)
      await healed(
        `server away for ${times(30, 5)} s: a word passes again, from its start, ${browser}`,
        [performance.now() - up],
      )
      await healed(`server away: longest standstill of the picture, ${browser}`, [
        await standstill(ann, bob),
      ])
      await endsAsOne(bob, ann, times(30, 5))
    },
  )

  scene('is killed and started again, in a call that it relays', async ({ people, server }) => {
    people.forgive(noServer)
    const ann = await people.enter('Ann', { relay: 'udp' })
    const bob = await people.enter('Bob', { relay: 'udp' })
    await connect(ann, bob)
    await seeAndHearEachOther(ann, bob)
    const ms: number[] = []
    for (let i = 0; i < times(5); i++) {
      await server.kill()
      await rests(1000)
      await server.restart()
      const up = performance.now()
      await Promise.all([moves(ann, 1), moves(bob, 1)])
      ms.push(performance.now() - up)
      await areJoined(ann, bob)
    }
    await healed('server killed that relays: pictures again, from its start', ms)
    await endsAsOne(ann, bob, 1)
  })

  scene('is away when one hangs up', async ({ people, server }) => {
    people.forgive(noServer)
    const [ann, bob] = await talk(people)
    await server.kill()
    const begin = performance.now()
    await ann.press('Hang up')
    await bob.reads('Ann hung up.')
    await healed('server away, one hangs up: the other knows', [performance.now() - begin])
    await server.restart()
    await bob.page.getByRole('button', { name: 'Call Ann' }).waitFor()
    await ann.remembers('Bob', 'Outgoing')
  })
})

describe.each(['chromium', 'firefox'] as const)('a page of %s', (browser) => {
  scene('is loaded anew', async ({ people }) => {
    const [ann, bob] = await talk(people, browser)
    const caller: number[] = []
    const callee: number[] = []
    for (let i = 0; i < times(5); i++) {
      for (const [who, other, ms] of [
        [ann, bob, caller],
        [bob, ann, callee],
      ] as const) {
        await who.page.reload({ waitUntil: 'commit' })
        ms.push(await firstPicture(who))
        await moves(other)
      }
    }
    await healed(`${browser}: caller’s page loaded anew, from load to picture`, caller)
    await healed(`called by ${browser}: callee’s page loaded anew, from load to picture`, callee)
    await seeAndHearEachOther(ann, bob)
    await areJoined(ann, bob)
    await endsAsOne(ann, bob, 1)
  })
})

scene('both pages are loaded anew at once', async ({ people }) => {
  const [ann, bob] = await talk(people)
  const ms: number[] = []
  for (let i = 0; i < times(5); i++) {
    await Promise.all([ann, bob].map(({ page }) => page.reload({ waitUntil: 'commit' })))
    ms.push(Math.max(...(await Promise.all([ann, bob].map(firstPicture)))))
  }
  await healed('both pages loaded anew at once, from load to picture', ms)
  await seeAndHearEachOther(ann, bob)
  await endsAsOne(ann, bob, 1)
})

// A browser that takes back an offer may lose the other party's picture: Chromium 156 shows it no more.
scene('both look for another path at once', async ({ people }) => {
  const [ann, bob] = await talk(people)
  const made = () => bob.page.evaluate(() => window.connections.length)
  const before = await made()
  const ms: number[] = []
  for (let i = 0; i < times(10, 3); i++) {
    await rests(2000)
    await mind(ann, bob)
    const at = Date.now() + 200
    for (const { page } of [ann, bob]) {
      await page.evaluate((at) => {
        setTimeout(() => window.changeNetwork(), at - Date.now())
      }, at)
    }
    await rests(500)
    await Promise.all([moves(ann), moves(bob)])
    ms.push(await standstill(ann, bob))
  }
  expect(await made(), 'offers that crossed').toBeGreaterThan(before)
  await healed('both look for another path at once: longest standstill of the picture', ms)
  await seeAndHearEachOther(ann, bob)
  await endsAsOne(ann, bob, 1)
})

scene('a page crashes, and is loaded again', async ({ people }) => {
  people.forgive(/crashed/)
  const [ann, bob] = await talk(people)
  // Playwright has done with a page that crashed once; the browser has not.
  const control = await ann.page.context().newCDPSession(ann.page)
  const page: Evaluates = {
    evaluate: async (look) => {
      const expression = `(${look})()`
      const { result } = await control.send('Runtime.evaluate', { expression, returnByValue: true })
      return result.value
    },
  }
  const ms: number[] = []
  for (let i = 0; i < times(5); i++) {
    const crashed = new Promise((resolve) => control.once('Inspector.targetCrashed', resolve))
    await control.send('Inspector.enable')
    control.send('Page.crash').catch(() => undefined)
    await crashed
    await control.send('Page.reload')
    ms.push(await firstPicture({ name: 'Ann', page }))
    await moves(bob)
  }
  await healed('renderer crashed, page loaded again: from load to picture', ms)
  await bob.press('Hang up')
  await bob.reads('You hung up.')
  await bob.remembers('Ann', 'Incoming')
})

/** Presses a button at a moment to come: two do so at once. */
async function tapAt({ page }: Person, name: string, inMs: number): Promise<void> {
  await page.getByRole('button', { name, exact: true }).evaluate((button, at) => {
    setTimeout(() => {
      if (button instanceof HTMLElement) button.click()
    }, at - Date.now())
  }, Date.now() + inMs)
}

scene('both ring each other at once', async ({ people }) => {
  const ann = await people.enter('Ann')
  const bob = await people.enter('Bob')
  await ann.button('Call Bob').waitFor()
  await bob.button('Call Ann').waitFor()
  const ms: number[] = []
  let late = 0
  for (let i = 0; i < times(50, 3); i++) {
    const begin = performance.now() + 300
    await Promise.all([tapAt(ann, 'Call Bob', 300), tapAt(bob, 'Call Ann', 300)])
    // A page may get the other's ring before its own tap: then it rings there, as it should.
    let met = 0
    let rung: Person | undefined
    const pictures = Promise.all([moves(ann, 1), moves(bob, 1)]).then(() => {
      met = performance.now() - begin
    })
    await until(
      'both have a picture',
      async () => {
        for (const person of rung ? [] : [ann, bob]) {
          if (!(await person.button('Accept').isVisible())) continue
          rung = person
          await person.press('Accept')
        }
        return met
      },
      (at) => at > 0,
      patienceMs,
      30,
    )
    await pictures
    if (rung) late++
    else ms.push(met)
    await (i % 2 ? ann : bob).press('Hang up')
    for (const [one, other] of [
      [ann, bob],
      [bob, ann],
    ] as const) {
      await one.page.getByRole('button', { name: 'Close' }).click()
      await one.button(`Call ${other.name}`).waitFor()
    }
  }
  expect(ms.length).toBeGreaterThan(late)
  await healed('both ring at once: pictures on both sides, from the taps', ms)
})

scene('three windows ring, one accepts; of two, one declines', async ({ people }) => {
  const ann = await people.enter('Ann')
  const bob = await people.enter('Bob')
  const others = [await people.openAgain(bob), await people.openAgain(bob)]
  const ms: number[] = []
  await ann.calls(bob)
  for (const window of [bob, ...others]) await window.isRungBy(ann)
  await bob.press('Accept')
  const accepted = performance.now()
  await Promise.all(others.map((window) => window.reads('Answered in another tab.')))
  ms.push(performance.now() - accepted)
  await seeAndHearEachOther(ann, bob)
  await bob.press('Hang up')
  await ann.reads('Bob hung up.')
  await healed('three windows ring, one accepts: the others are silent', ms)

  await ann.calls(bob)
  for (const window of [bob, ...others]) await window.isRungBy(ann)
  const declined = performance.now()
  await bob.press('Decline')
  await Promise.all(others.map((window) => window.reads('Declined in another tab.')))
  await ann.reads('Bob declined.')
  await healed('three windows ring, one declines: the others are silent', [
    performance.now() - declined,
  ])
})

scene('the caller vanishes while it rings', async ({ people }) => {
  const ann = await people.enter('Ann')
  const bob = await people.enter('Bob')
  await ann.calls(bob)
  await bob.isRungBy(ann)
  const gone = performance.now()
  await ann.page.close()
  await bob.reads(/stopped calling|missed a call/)
  await healed('caller vanishes while it rings: it rings no more', [performance.now() - gone])
  await bob.remembers('Ann', 'Incoming', 'Missed')
})

for (const [all, few] of [
  [5, 5],
  [180, 8],
] as const) {
  scene(
    `the connection to the server is cut, for ${all} s`,
    async ({ people, server, onTestFinished }) => {
      people.forgive(noServer)
      const wire = await Wire.to(server.origin)
      onTestFinished(() => wire.close())
      const ann = await people.enter('Ann', { origin: wire.origin })
      const bob = await people.enter('Bob')
      await connect(ann, bob)
      await seeAndHearEachOther(ann, bob)
      await mind(ann, bob)
      const seconds = times(all, few)
      const cut = performance.now()
      wire.cut()
      if (seconds > 60) {
        // Longer than a party may be away: the call is over.
        await rests(40_000)
        await bob.reads('The connection was lost and did not come back.')
      }
      await rests(seconds * 1000 - (performance.now() - cut))
      wire.mend()
      const mended = performance.now()
      if (seconds < 60) {
        await areJoined(ann, bob)
        await healed(`one socket cut for ${seconds} s: a word passes again`, [
          performance.now() - mended,
        ])
        await healed(`one socket cut for ${seconds} s: longest standstill of the picture`, [
          await standstill(ann, bob),
        ])
        await endsAsOne(ann, bob, seconds)
      } else {
        await ann.button('Call Bob').waitFor()
        await healed(
          `one socket cut for ${seconds} s: the other one knows, too, that the call is over`,
          [performance.now() - mended],
        )
      }
    },
  )
}

scene('descriptions come after their candidates', async ({ people }) => {
  const ann = await people.enter('Ann', { reorder: true })
  const bob = await people.enter('Bob', { reorder: true })
  await ann.calls(bob)
  await bob.isRungBy(ann)
  const begin = performance.now()
  await bob.press('Accept')
  await Promise.all([moves(ann, 1), moves(bob, 1)])
  await healed('descriptions after their candidates: pictures, from accept', [
    performance.now() - begin,
  ])
  await Promise.all([hears(ann, bob), hears(bob, ann)])
})
