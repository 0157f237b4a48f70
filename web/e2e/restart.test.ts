// A call whose path is looked for anew, or whose page is loaded anew, by each side and in each browser. MATRIX=all runs
// every combination (make matrix); otherwise there are the two of different browsers, whose descriptions differ most.

import { describe } from 'vitest'
import type { BrowserName } from './browsers.ts'
import { healed } from './faults/table.ts'
import { mind, moves, standstill } from './faults/watch.ts'
import { seeAndHearEachOther } from './media.ts'
import type { Person } from './person.ts'
import { scene } from './scene.ts'
import { until } from './until.ts'

interface Row {
  readonly caller: BrowserName
  readonly callee: BrowserName
  readonly codec: 'VP8' | 'VP9'
  /** How long it rings before it is accepted: the two connect meanwhile, or have no time to. */
  readonly ringMs: number
}

const browsers = ['chromium', 'firefox'] as const
const all: readonly Row[] = browsers.flatMap((caller) =>
  browsers.flatMap((callee) =>
    (['VP8', 'VP9'] as const).flatMap((codec) =>
      [0, 3000].map((ringMs) => ({ caller, callee, codec, ringMs })),
    ),
  ),
)
const core: readonly Row[] = [
  { caller: 'chromium', callee: 'firefox', codec: 'VP8', ringMs: 3000 },
  { caller: 'firefox', callee: 'chromium', codec: 'VP9', ringMs: 0 },
]
const { MATRIX } = process.env
const rows = (MATRIX === 'all' ? all : core).map((row) => {
  const { caller, callee, codec, ringMs } = row
  return [`${caller} calls ${callee}, ${codec} first, accepted after ${ringMs} ms`, row] as const
})

// A path that was just agreed on has its time before another is looked for (settleMs in the SDK).
const settledMs = 3200

const rests = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** The ICE credentials that a page uses, once nothing is being negotiated. */
function credentials({ page }: Person): Promise<string | undefined> {
  return page.evaluate(() => {
    const connection = window.connections.at(-1)
    if (connection?.signalingState !== 'stable') return undefined
    return /^a=ice-ufrag:(.*)$/m.exec(connection.localDescription?.sdp ?? '')?.[1]
  })
}

/** One looks for another path: both agree on new ICE credentials, and media goes on. */
async function restarts(row: string, one: Person, other: Person): Promise<void> {
  await rests(settledMs)
  const both = [one, other]
  const ask = () => Promise.all(both.map(credentials))
  const before = await until('nothing is being negotiated', ask, (all) => !all.includes(undefined))
  await mind(one, other)
  await one.page.evaluate(() => window.failConnection())
  await until(
    `${one.name} and ${other.name} have agreed on other credentials than ${before}`,
    ask,
    (now) => now.every((ufrag, i) => ufrag !== undefined && ufrag !== before[i]),
  )
  await Promise.all(both.map((person) => moves(person)))
  await healed(`${row}: ${one.name} restarts`, [await standstill(one, other)])
}

describe.each(rows)('%s', (name, { caller, callee, codec, ringMs }) => {
  scene('either restarts, either is loaded anew', async ({ people }) => {
    const ann = await people.enter('Ann', { browser: caller, codec, direct: true })
    const bob = await people.enter('Bob', { browser: callee, codec, direct: true })
    await ann.calls(bob)
    await bob.isRungBy(ann)
    await rests(ringMs)
    await bob.accepts(ann)
    await seeAndHearEachOther(ann, bob)
    const ways = [
      [ann, bob],
      [bob, ann],
    ] as const
    for (const [one, other] of ways) await restarts(name, one, other)
    for (const [loaded, stays] of ways) {
      // The page that is loaded anew makes the first offer of the new connection, whoever called.
      await loaded.page.reload({ waitUntil: 'commit' })
      await Promise.all([moves(loaded), moves(stays)])
      await restarts(name, stays, loaded)
    }
    await seeAndHearEachOther(ann, bob)
  })
})
