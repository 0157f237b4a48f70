// What runs in each page before its own scripts. It changes nothing that a test did not ask for.

import type { BrowserContext } from 'playwright-core'

type MediaKind = 'audio' | 'video'

/** What a test may ask of a page. */
export interface Wishes {
  /** Media goes over the relay only, reached by this transport. */
  relay?: 'udp' | 'tcp' | 'tls'
  /** The page hides its addresses, as one does whose SDK was told to: a relay is all it uses, and the server knows. */
  hides?: boolean
  /** The page shows its addresses to strangers, too. */
  direct?: boolean
  /** The name of the error with which a device does not start, such as NotFoundError. */
  devices?: Partial<Record<MediaKind, string>>
  /** What the page sends of a call comes in another order: its candidates before its descriptions. */
  reorder?: boolean
  /** The video codec that this page offers first. */
  codec?: 'VP8' | 'VP9'
}

/** How the picture of the other person fares, as this page shows it; times are by performance.now(). */
export interface Watched {
  /** When it showed the first one. */
  first: number | undefined
  /** How many it has shown. */
  frames: number
  /** When it showed the last one, and the longest it stood still. */
  last: number
  still: number
  /** Since when it has moved without standing still for half a second, by Date.now(). */
  since: number
}

declare global {
  interface Window {
    /** Every RTCPeerConnection of the page. */
    connections: RTCPeerConnection[]
    /** Every data channel of the page, and what was heard on any of them. */
    channels: RTCDataChannel[]
    words: string[]
    watched: Watched
    /** From now on devices start as they do in the browser. */
    giveDevices(): void
    /** The page believes that its connection has failed, until that is mended with an ICE restart. */
    failConnection(): void
    /** The browser says that the network is another one. Chromium only: Firefox never does. */
    changeNetwork(): void
  }
}

/** How the page tells, as a debug message, which ICE servers it was to use. */
export const iceServersMark = 'e2e: ICE servers: '

export async function observe(context: BrowserContext, wishes: Wishes): Promise<void> {
  await context.addInitScript(inPage, { ...wishes, mark: iceServersMark })
}

// Playwright sends the text of this function to the page: it can use nothing from outside.
function inPage(wishes: Wishes & { mark: string }): void {
  const { relay, hides, direct, devices, reorder, codec, mark } = wishes
  // Firefox runs this in an empty page first, which has no storage.
  if (direct && window.origin !== 'null') {
    localStorage.setItem(`visavis.strangers ${location.origin}`, 'direct')
  }
  window.connections = []
  window.channels = []
  window.words = []

  window.watched = { first: undefined, frames: 0, last: performance.now(), still: 0, since: 0 }
  const followed = new WeakSet<HTMLVideoElement>()
  const follow = (video: HTMLVideoElement) => {
    video.requestVideoFrameCallback((now) => {
      const { watched } = window
      watched.first ??= now
      watched.frames += 1
      if (now - watched.last > 500) watched.since = Date.now()
      watched.still = Math.max(watched.still, now - watched.last)
      watched.last = now
      follow(video)
    })
  }
  setInterval(() => {
    const { watched } = window
    watched.still = Math.max(watched.still, performance.now() - watched.last)
    const video = document.querySelector<HTMLVideoElement>('[aria-label^="Picture of"] video')
    if (!video || followed.has(video)) return
    followed.add(video)
    follow(video)
  }, 40)

  const adapt = (configuration: RTCConfiguration = {}): RTCConfiguration => {
    const urls = (server: RTCIceServer) => [server.urls].flat()
    const all = configuration.iceServers ?? []
    console.debug(`${mark}${JSON.stringify(all.flatMap(urls))}`)
    if (hides) return { ...configuration, iceTransportPolicy: 'relay' }
    if (!relay) return configuration
    const begin = relay === 'tls' ? 'turns:' : 'turn:'
    const end = `?transport=${relay === 'tls' ? 'tcp' : relay}`
    const iceServers = all
      .map((server) => ({
        ...server,
        urls: urls(server).filter((url) => url.startsWith(begin) && url.endsWith(end)),
      }))
      .filter((server) => server.urls.length > 0)
    return { ...configuration, iceServers, iceTransportPolicy: 'relay' }
  }
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(configuration?: RTCConfiguration) {
      super(adapt(configuration))
      // One without a configuration is none of a call: it looks for this machine's addresses.
      if (configuration) window.connections.push(this)
    }
    override createDataChannel(label: string, options?: RTCDataChannelInit) {
      const channel = super.createDataChannel(label, options)
      window.channels.push(channel)
      channel.addEventListener('message', ({ data }) => window.words.push(String(data)))
      return channel
    }
    override setConfiguration(configuration?: RTCConfiguration) {
      super.setConfiguration(adapt(configuration))
    }
  }

  if (codec) {
    const add = RTCPeerConnection.prototype.addTransceiver
    RTCPeerConnection.prototype.addTransceiver = function (kind, init) {
      const transceiver = add.call(this, kind, init)
      if (kind !== 'video') return transceiver
      const codecs = RTCRtpReceiver.getCapabilities('video')?.codecs ?? []
      const isFirst = ({ mimeType }: RTCRtpCodec) => mimeType === `video/${codec}`
      transceiver.setCodecPreferences([
        ...codecs.filter(isFirst),
        ...codecs.filter((each) => !isFirst(each)),
      ])
      return transceiver
    }
  }

  window.failConnection = () => {
    const connection = window.connections.at(-1)
    if (!connection) throw new Error('there is no connection to fail')
    const ufrag = () => /^a=ice-ufrag:(.*)$/m.exec(connection.localDescription?.sdp ?? '')?.[1]
    const before = ufrag()
    // Firefox tells an event that a page has made to listeners, but not to the handler.
    const becomes = () => connection.onconnectionstatechange?.(new Event('connectionstatechange'))
    Object.defineProperty(connection, 'connectionState', { value: 'failed', configurable: true })
    becomes()
    const timer = setInterval(() => {
      // One that is closed has no description to ask for in Firefox.
      const { signalingState } = connection
      const mended = signalingState === 'stable' && ufrag() !== before
      if (!mended && signalingState !== 'closed') return
      clearInterval(timer)
      Reflect.deleteProperty(connection, 'connectionState')
      becomes()
    }, 20)
  }

  window.changeNetwork = () => {
    const connection = Reflect.get(navigator, 'connection')
    const type = `another than ${connection.type}`
    Object.defineProperty(connection, 'type', { value: type, configurable: true })
    connection.dispatchEvent(new Event('change'))
  }

  if (hides) {
    const send = WebSocket.prototype.send
    WebSocket.prototype.send = function (data) {
      const frame = JSON.parse(String(data))
      if (frame.type === 'hello') frame.alwaysRelay = true
      send.call(this, JSON.stringify(frame))
    }
  }

  if (reorder) {
    // The numbers stay in order: what they stand for does not.
    const held = new WeakMap<WebSocket, { frame: { seq: number }; rest: number }>()
    const send = WebSocket.prototype.send
    const release = (socket: WebSocket) => {
      const late = held.get(socket)
      held.delete(socket)
      if (late) send.call(socket, JSON.stringify(late.frame))
    }
    WebSocket.prototype.send = function (data) {
      const frame = JSON.parse(String(data))
      const late = held.get(this)
      if (late) {
        const { seq } = late.frame
        late.frame.seq = frame.seq
        frame.seq = seq
        late.rest -= 1
        send.call(this, JSON.stringify(frame))
        if (late.rest > 0) return
        release(this)
      } else if (frame.type === 'offer' || frame.type === 'answer') {
        held.set(this, { frame, rest: 2 })
        setTimeout(release, 300, this)
      } else {
        send.call(this, data)
      }
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
