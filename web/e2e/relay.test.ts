import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, vi } from 'vitest'
import { type BrowserName, launchTrusting } from './browsers.ts'
import { path, seeAndHearEachOther } from './media.ts'
import { connect } from './person.ts'
import { others, Relay } from './relays.ts'
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

// The page itself stays at http://localhost, or it would take another relay of the server's to have it over TLS alone.
describe('a call over a relay by TLS', async () => {
  const relay = await Relay.start(
    ...['--tls', 'self-signed', '--relay-tls-listen', '127.0.0.1:0'],
    ...['--relay-tls-name', 'localhost'],
  )
  scene.override('flags', others('tls', relay))
  scene.override('reaches', [relay.port('tls')])
  const browsers = new Map<BrowserName, Browser>()
  beforeAll(async () => {
    vi.stubEnv('SSL_CERT_FILE', relay.certificateFile) // the server tells it of calls by TLS, too
    const certificate = await relay.certificate()
    for (const name of ['chromium', 'firefox'] as const) {
      browsers.set(name, await launchTrusting(name, certificate))
    }
  })
  afterAll(async () => {
    for (const browser of browsers.values()) await browser.close()
    vi.unstubAllEnvs()
    await relay.kill()
  })

  describe.each<BrowserName>(['chromium', 'firefox'])('from %s to chromium', (name) => {
    scene('carries picture and sound both ways', async ({ people }) => {
      people.forgive(/was to use the ICE server turns:localhost/)
      const ann = await people.enter('Ann', { relay: 'tls', browser: browsers.get(name) ?? name })
      const bob = await people.enter('Bob', {
        relay: 'tls',
        browser: browsers.get('chromium') ?? 'chromium',
      })
      await connect(ann, bob)
      await seeAndHearEachOther(ann, bob)
      for (const party of [ann, bob]) {
        expect(await path(party)).toMatchObject({ local: 'relay', relayProtocol: 'tls' })
      }
    })
  })
})
