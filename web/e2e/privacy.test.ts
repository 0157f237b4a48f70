import { expect } from 'vitest'
import { seeAndHearEachOther } from './media.ts'
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
