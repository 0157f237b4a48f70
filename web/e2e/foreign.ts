// A page that was written with socket.io-client before there was a Visavis, served from a place of its own.

import { readFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import type { Locator, Page } from 'playwright-core'
import type { Party } from './media.ts'
import { patienceMs, until } from './until.ts'

/** In which of the usual ways the page is written. */
export interface ForeignWays {
  readonly media: 'streams' | 'tracks'
  readonly transport: 'websocket' | 'polling'
}

/** What the server told such a page. */
interface Told {
  readonly event: string
  readonly data: unknown
}

declare global {
  interface Window {
    told: Told[]
    isConnected(): boolean
    call(name: string): Promise<void>
    disconnect(): void
  }
}

const page = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>A page with socket.io-client</title>
<link rel="icon" href="data:,">
<video id="local" autoplay playsinline muted></video>
<video id="remote" autoplay playsinline></video>
<script src="/socket.io.js"></script>
<script>
const { username, url, media, transport } = Object.fromEntries(new URLSearchParams(location.search))
const remote = document.getElementById("remote")
let socket, pc, target
window.told = []
window.isConnected = () => Boolean(socket && socket.connected)
window.disconnect = () => socket.disconnect()

navigator.mediaDevices.getUserMedia({ audio: true, video: true }).then(stream => {
  document.getElementById("local").srcObject = stream
  pc = new RTCPeerConnection({ iceServers: [] })
  if (media === "streams") {
    pc.addStream(stream)
    pc.onaddstream = e => { remote.srcObject = e.stream }
  } else {
    for (const track of stream.getTracks()) pc.addTrack(track, stream)
    pc.ontrack = e => { remote.srcObject = e.streams[0] }
  }
  socket = io(url, { query: { username }, transports: [transport] })
  socket.onAny((event, data) => told.push({ event, data }))
  pc.onicecandidate = e => { if (e.candidate) socket.emit("candidate", { username, target, candidate: e.candidate }) }
  socket.on("offer", async d => {
    target = d.username
    await pc.setRemoteDescription(d.offer)
    const answer = await pc.createAnswer()
    await pc.setLocalDescription(answer)
    socket.emit("answer", { username, target, answer })
  })
  socket.on("answer", d => pc.setRemoteDescription(d.answer))
  socket.on("candidate", d => pc.addIceCandidate(d.candidate))
})

async function call(name) {
  target = name
  const offer = await pc.createOffer()
  await pc.setLocalDescription(offer)
  socket.emit("offer", { username, target, offer })
}
</script>
</html>
`

/** Where the page is served, on a port of its own. */
export class ForeignSite {
  readonly #server: Server
  readonly #origin: string

  private constructor(server: Server, origin: string) {
    this.#server = server
    this.#origin = origin
  }

  static async start(): Promise<ForeignSite> {
    const require = createRequire(import.meta.url)
    const client = await readFile(require.resolve('socket.io-client/dist/socket.io.js'), 'utf8')
    const files: Record<string, [type: string, text: string]> = {
      '/': ['text/html', page],
      '/socket.io.js': ['text/javascript', client.replace(/^\/\/# sourceMappingURL.*$/m, '')],
    }
    const server = createServer((request, response) => {
      const [type, text] = files[request.url?.split('?')[0] ?? ''] ?? []
      if (type === undefined) response.writeHead(404).end()
      else response.writeHead(200, { 'content-type': `${type}; charset=utf-8` }).end(text)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return new ForeignSite(server, `http://localhost:${(server.address() as AddressInfo).port}`)
  }

  /** The page, for that person, which talks to that server. */
  address(username: string, url: string, ways: ForeignWays): string {
    return `${this.#origin}/?${new URLSearchParams({ username, url, ...ways })}`
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}

/** Somebody with that page open. */
export class ForeignPerson implements Party {
  readonly name: string
  readonly page: Page

  constructor(name: string, page: Page) {
    this.name = name
    this.page = page
    page.setDefaultTimeout(patienceMs)
  }

  async enters(): Promise<void> {
    await until(
      `${this.name}'s page is connected`,
      () => this.page.evaluate(() => window.isConnected()),
      (connected) => connected,
    )
  }

  async calls(peer: Pick<Party, 'name'>): Promise<void> {
    await this.page.evaluate((name) => window.call(name), peer.name)
  }

  async disconnects(): Promise<void> {
    await this.page.evaluate(() => window.disconnect())
  }

  picture(): Locator {
    return this.page.locator('#remote')
  }

  sound(): Locator {
    return this.picture()
  }

  /** The server tells this page that event; its data. */
  async isTold(...events: string[]): Promise<Told> {
    const told = await until(
      `${this.name}'s page is told ${events.join(' or ')}`,
      () => this.page.evaluate(() => window.told),
      (all) => all.some(({ event }) => events.includes(event)),
    )
    return told.find(({ event }) => events.includes(event)) ?? { event: '', data: undefined }
  }
}
