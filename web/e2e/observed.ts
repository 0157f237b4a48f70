// What runs in each page before its own scripts. It changes nothing that a test did not ask for.

import type { BrowserContext } from 'playwright-core'

type MediaKind = 'audio' | 'video'

/** What a test may ask of a page. */
export interface Wishes {
  /** Media goes over the relay only, reached by this transport. */
  relay?: 'udp' | 'tcp'
  /** The name of the error with which a device does not start, such as NotFoundError. */
  devices?: Partial<Record<MediaKind, string>>
}

declare global {
  interface Window {
    /** Every RTCPeerConnection of the page. */
    connections: RTCPeerConnection[]
    /** From now on devices start as they do in the browser. */
    giveDevices(): void
  }
}

/** How the page tells, as a debug message, which ICE servers it was to use. */
export const iceServersMark = 'e2e: ICE servers: '

export async function observe(context: BrowserContext, wishes: Wishes): Promise<void> {
  await context.addInitScript(inPage, { ...wishes, mark: iceServersMark })
}

// Playwright sends the text of this function to the page: it can use nothing from outside.
function inPage({ relay, devices, mark }: Wishes & { mark: string }): void {
  window.connections = []

  const adapt = (configuration: RTCConfiguration = {}): RTCConfiguration => {
    const urls = (server: RTCIceServer) => [server.urls].flat()
    const all = configuration.iceServers ?? []
    console.debug(`${mark}${JSON.stringify(all.flatMap(urls))}`)
    if (!relay) return configuration
    const iceServers = all
      .map((server) => ({
        ...server,
        urls: urls(server).filter((url) => url.endsWith(`?transport=${relay}`)),
      }))
      .filter((server) => server.urls.length > 0)
    return { ...configuration, iceServers, iceTransportPolicy: 'relay' }
  }
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(configuration?: RTCConfiguration) {
      super(adapt(configuration))
      window.connections.push(this)
    }
    override setConfiguration(configuration?: RTCConfiguration) {
      super.setConfiguration(adapt(configuration))
    }
  }

  if (devices) {
    const open = MediaDevices.prototype.getUserMedia
    window.giveDevices = () => {
      MediaDevices.prototype.getUserMedia = open
    }
    MediaDevices.prototype.getUserMedia = function (constraints) {
      for (const kind of ['video', 'audio'] as const) {
        const error = devices[kind]
        if (error && constraints?.[kind]) {
          return Promise.reject(new DOMException(`no ${kind} in this test`, error))
        }
      }
      return open.call(this, constraints)
    }
  }
}
