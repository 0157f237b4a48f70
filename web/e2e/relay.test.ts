import { describe, expect } from 'vitest'
import type { BrowserName } from './browsers.ts'
import { path, seeAndHearEachOther } from './media.ts'
import { connect } from './person.ts'
import { scene } from './scene.ts'

const ways: ['udp' | 'tcp', BrowserName][] = [
  ['udp', 'chromium'],
  ['tcp', 'chromium'],
  ['udp', 'firefox'],
  ['tcp', 'firefox'],
]

describe.each(ways)('a call over the relay by %s, from %s to chromium', (relay, browser) => {
  scene('carries picture and sound both ways', async ({ people }) => {
    const ann = await people.enter('Ann', { relay, browser })
    const bob = await people.enter('Bob', { relay })
    await connect(ann, bob)
    await seeAndHearEachOther(ann, bob)
    for (const party of [ann, bob]) {
      expect(await path(party)).toMatchObject({ local: 'relay', relayProtocol: relay })
    }
  })
})
