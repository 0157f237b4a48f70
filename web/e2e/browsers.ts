// One Chromium and one Firefox for the whole run, each a process of its own with a new profile. The test files
// connect to them and give each person a context.

import { createHash, X509Certificate } from 'node:crypto'
import { accessSync, constants } from 'node:fs'
import { rm } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Browser, type BrowserServer, chromium, firefox } from 'playwright-core'
import { inject } from 'vitest'
import type { TestProject } from 'vitest/node'

/** Where pictures for a person are left. */
export const out = fileURLToPath(new URL('out', import.meta.url))

export type BrowserName = 'chromium' | 'firefox'

declare module 'vitest' {
  interface ProvidedContext {
    chromium: string
    firefox: string
  }
}

export const chromiumArguments = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--use-fake-device-for-media-stream',
  '--use-fake-ui-for-media-stream',
  '--autoplay-policy=no-user-gesture-required',
]

const firefoxPreferences = {
  'media.navigator.streams.fake': true,
  'media.navigator.permission.disabled': true,
  'media.autoplay.default': 0,
  // Our relay is on loopback, where Firefox otherwise uses none.
  'media.peerconnection.ice.loopback': true,
  // It talks to nobody of its own accord.
  'app.normandy.enabled': false,
  'app.update.enabled': false,
  'browser.region.update.enabled': false,
  'browser.safebrowsing.downloads.enabled': false,
  'browser.safebrowsing.malware.enabled': false,
  'browser.safebrowsing.phishing.enabled': false,
  'browser.search.update': false,
  'datareporting.healthreport.uploadEnabled': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'dom.push.connection.enabled': false,
  'extensions.getAddons.cache.enabled': false,
  'extensions.systemAddon.update.enabled': false,
  'extensions.update.enabled': false,
  'media.gmp-manager.updateEnabled': false,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'services.settings.server': 'data:,',
  'toolkit.telemetry.enabled': false,
  'toolkit.telemetry.unified': false,
}

/** One more browser, a process of its own. */
export function launch(name: BrowserName): Promise<BrowserServer> {
  if (name === 'chromium') {
    return chromium.launchServer({
      executablePath: inPath('chromium'),
      args: chromiumArguments,
    })
  }
  return firefox.launchServer({
    executablePath: inPath('firefox-esr'),
    channel: 'moz-firefox',
    firefoxUserPrefs: firefoxPreferences,
  })
}

/** Connects to a browser that was launched. */
export function connectTo(name: BrowserName, endpoint: string): Promise<Browser> {
  return (name === 'chromium' ? chromium : firefox).connect(endpoint)
}

/** Vitest's global set-up: starts the browsers, and stops them at the end. Pictures of a run before go, unless they are kept. */
export async function setup(project: TestProject, keeps = false): Promise<() => Promise<void>> {
  if (!keeps) await rm(out, { recursive: true, force: true })
  const servers: BrowserServer[] = []
  const stop = async () => {
    await Promise.all(servers.map((server) => server.close()))
  }
  try {
    servers.push(await launch('chromium'))
    servers.push(await launch('firefox'))
  } catch (error) {
    await stop()
    throw error
  }
  const [one, other] = servers
  project.provide('chromium', one?.wsEndpoint() ?? '')
  project.provide('firefox', other?.wsEndpoint() ?? '')
  return stop
}

/** One more browser, which believes a server with this certificate (PEM), be it of a page or a relay. */
export async function launchTrusting(name: BrowserName, certificate: string): Promise<Browser> {
  if (name === 'chromium') {
    const key = new X509Certificate(certificate).publicKey.export({ type: 'spki', format: 'der' })
    const hash = createHash('sha256').update(key).digest('base64')
    return await chromium.launch({
      executablePath: inPath('chromium'),
      args: [...chromiumArguments, `--ignore-certificate-errors-spki-list=${hash}`],
    })
  }
  // What a context ignores are errors of pages; only what the whole browser ignores are those of relays, too.
  const context = await firefox.launchPersistentContext('', {
    executablePath: inPath('firefox-esr'),
    channel: 'moz-firefox',
    firefoxUserPrefs: firefoxPreferences,
    ignoreHTTPSErrors: true,
  })
  const browser = context.browser()
  if (!browser) throw new Error('a profile without a browser')
  return browser
}

/** One more Firefox, with these preferences besides. */
export async function launchFirefox(
  preferences: Record<string, boolean | number | string>,
): Promise<Browser> {
  return await firefox.launch({
    executablePath: inPath('firefox-esr'),
    channel: 'moz-firefox',
    firefoxUserPrefs: { ...firefoxPreferences, ...preferences },
  })
}

/** The browsers, as one test file reaches them. */
export class Browsers {
  readonly #connected = new Map<BrowserName, Promise<Browser>>()

  get(name: BrowserName): Promise<Browser> {
    let browser = this.#connected.get(name)
    if (!browser) {
      browser = connectTo(name, inject(name))
      this.#connected.set(name, browser)
    }
    return browser
  }

  async disconnect(): Promise<void> {
    for (const browser of this.#connected.values()) await (await browser).close()
  }
}

export function inPath(command: string): string {
  const { PATH = '' } = process.env
  for (const folder of PATH.split(delimiter)) {
    const path = join(folder, command)
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      // In one of the next folders, perhaps.
    }
  }
  throw new Error(`${command} is not installed\nhint: make needs`)
}
