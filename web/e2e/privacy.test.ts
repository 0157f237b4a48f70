import { describe, expect } from 'vitest'
import type { BrowserName } from './browsers.ts'
import { type Party, path, seeAndHearEachOther } from './media.ts'
import { connect } from './person.ts'
import { scene } from './scene.ts'

// Every scene fails when a page asks for anything elsewhere, is given a foreign ICE server, or the server connects to
// anyone. This one shows that these watches see what there is to see.
scene(
  'the watches see what pages ask for and which ICE servers they use',
  async ({ people, server }) => {
    const ann = await people.enter('Ann')
    const bob = await people.enter('Bob', { browser: 'firefox' })
    await connect(ann, bob)
    await seeAndHearEachOther(ann, bob)
    const paths = new Set(people.requests.map((url) => new URL(url).pathname))
    expect([...paths]).toEqual(
      expect.arrayContaining(['/', '/v1/place', '/v1/signal', '/v1/calls']),
    )
    expect(new Set(people.iceServers)).toEqual(new Set(server.relayURLs))
    expect(server.watched).toContain('tcp')
    expect(server.watched).toContain('udp')
  },
)

describe.each<BrowserName>(['chromium', 'firefox'])('who hides their address and %s', (browser) => {
  scene('find a path, and the other one is shown no address of theirs', async ({ people }) => {
    const ann = await people.enter('Ann', { hides: true })
    const bob = await people.enter('Bob', { browser, direct: true })
    await (browser === 'firefox' ? connect(bob, ann) : connect(ann, bob))
    await seeAndHearEachOther(ann, bob)
    expect(await path(ann)).toMatchObject({ local: 'relay' })
    // A check may come from a relayed address that was not told, and makes a candidate of its own (prflx).
    const told = await candidates(bob, 'remote-candidate')
    const relayed = (await candidates(ann, 'local-candidate')).filter(
      ({ type }) => type === 'relay',
    )
    expect(told).not.toEqual([])
    expect(relayed.map(({ at }) => at)).toEqual(expect.arrayContaining(told.map(({ at }) => at)))
  })
})

/** The candidates of one side, as a page's connection has them. */
function candidates(
  { page }: Party,
  side: 'local-candidate' | 'remote-candidate',
): Promise<{ type: string; at: string }[]> {
  return page.evaluate(async (side) => {
    const open = window.connections.findLast((c) => c.connectionState === 'connected')
    const report = [...((await open?.getStats())?.values() ?? [])]
    return report
      .filter(({ type }) => type === side)
      .map(({ candidateType, address, port }) => ({
        type: String(candidateType),
        at: `${address}:${port}`,
      }))
  }, side)
}
