import { describe, expect } from 'vitest'
import type { BrowserName } from './browsers.ts'
import { path, seeAndHearEachOther } from './media.ts'
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
    expect(await path(bob)).toMatchObject({ remote: 'relay' })
    const shown = await bob.page.evaluate(async () => {
      const open = window.connections.findLast((c) => c.connectionState === 'connected')
      const report = [...((await open?.getStats())?.values() ?? [])]
      return report
        .filter(({ type }) => type === 'remote-candidate')
        .map(({ candidateType }) => candidateType as string)
    })
    expect(new Set(shown)).toEqual(new Set(['relay']))
  })
})
