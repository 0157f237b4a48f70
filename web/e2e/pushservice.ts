// A push service of our own for Firefox, on loopback: Mozilla's protocol between browser and service, as much of it as a
// browser needs to be pushed to.

import { createHash, randomUUID } from 'node:crypto'
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'

/** What a server pushed. */
export interface Pushed {
  readonly headers: IncomingHttpHeaders
  /** Encrypted: this service cannot read it. */
  readonly body: Buffer
}

interface Said {
  readonly messageType?: string
  readonly channelID?: string
}

/** Where a browser keeps a connection, and a server posts to. */
export class PushService {
  readonly #server: Server
  readonly #connections = new Set<Duplex>()
  /** Who takes what is pushed, by the channel of their subscription. */
  readonly #channels = new Map<string, (pushed: Pushed) => void>()

  private constructor(server: Server) {
    this.#server = server
    server.on('upgrade', (request, socket) => {
      const accept = createHash('sha1')
        .update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
        .digest('base64')
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
          `Sec-WebSocket-Protocol: push-notification\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
      )
      hear(socket, (text) => this.#answer(socket, JSON.parse(text)))
      this.#connections.add(socket)
      socket.on('error', () => socket.destroy())
    })
    server.on('request', (request, response) => {
      const parts: Buffer[] = []
      request.on('data', (part: Buffer) => parts.push(part))
      request.on('end', () => {
        const taken = this.#push(request.url ?? '', {
          headers: request.headers,
          body: Buffer.concat(parts),
        })
        response.writeHead(taken ? 201 : 410).end()
      })
    })
  }

  static async start(): Promise<PushService> {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return new PushService(server)
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** Where the server pushes to. */
  get origin(): string {
    return `http://127.0.0.1:${this.port}`
  }

  /** What makes a Firefox use this service, and let every page show notifications. */
  get firefoxPreferences(): Record<string, boolean | number | string> {
    return {
      'dom.push.connection.enabled': true,
      'dom.push.serverURL': `ws://127.0.0.1:${this.port}/`,
      'dom.push.testing.allowInsecureServerURL': true,
      'permissions.default.desktop-notification': 1,
      // The test opens windows.
      'dom.disable_open_during_load': false,
      // Without a desktop there is nobody else to show them.
      'alerts.useSystemBackend': false,
    }
  }

  async stop(): Promise<void> {
    for (const socket of this.#connections) socket.destroy()
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  /** How many messages were pushed. */
  pushed = 0

  /** How many subscriptions there are. */
  get channels(): number {
    return this.#channels.size
  }

  /** Opens a channel without a browser, and gives the endpoint by which `take` is pushed to. */
  open(take: (pushed: Pushed) => void): string {
    const channel = randomUUID()
    this.#channels.set(channel, take)
    return this.#endpoint(channel)
  }

  #endpoint(channel: string): string {
    return `${this.origin}/${channel}`
  }

  #push(path: string, pushed: Pushed): boolean {
    const take = this.#channels.get(path.slice(1))
    if (take) this.pushed++
    take?.(pushed)
    return take !== undefined
  }

  #register(browser: Duplex, channelID: string): void {
    this.#channels.set(channelID, ({ headers, body }) => {
      say(browser, {
        messageType: 'notification',
        channelID,
        version: randomUUID(),
        data: body.toString('base64url'),
        headers: { encoding: headers['content-encoding'] },
      })
    })
  }

  #answer(browser: Duplex, { messageType, channelID = '' }: Said): void {
    switch (messageType) {
      case undefined:
        say(browser, {})
        return
      case 'hello':
        say(browser, {
          messageType,
          status: 200,
          uaid: randomUUID().replaceAll('-', ''),
          use_webpush: true,
        })
        return
      case 'register':
        this.#register(browser, channelID)
        say(browser, {
          messageType,
          status: 200,
          channelID,
          pushEndpoint: this.#endpoint(channelID),
        })
        return
      case 'unregister':
        this.#channels.delete(channelID)
        say(browser, { messageType, status: 200, channelID })
    }
  }
}

const text = 0x81
const close = 0x88

/** Sends a text frame (RFC 6455 §5.2), of less than 64 KiB. */
function say(socket: Duplex, message: object): void {
  const payload = Buffer.from(JSON.stringify(message))
  const { length } = payload
  const head = length < 126 ? [text, length] : [text, 126, length >> 8, length & 0xff]
  socket.write(Buffer.concat([Buffer.from(head), payload]))
}

/** Calls `listener` for each text frame of a client; they are masked, short and whole. */
function hear(socket: Duplex, listener: (text: string) => void): void {
  let got = Buffer.alloc(0)
  socket.on('data', (part: Buffer) => {
    got = Buffer.concat([got, part])
    for (;;) {
      if (got.length < 8) return
      const short = got.readUInt8(1) & 0x7f
      const head = short === 126 ? 4 : 2
      const length = short === 126 ? got.readUInt16BE(2) : short
      const end = head + 4 + length
      if (got.length < end) return
      const mask = got.subarray(head, head + 4)
      const payload = got.subarray(head + 4, end).map((byte, i) => byte ^ (mask[i % 4] ?? 0))
      const kind = got.readUInt8(0)
      got = got.subarray(end)
      if (kind === text) listener(Buffer.from(payload).toString())
      if (kind === close) socket.end()
    }
  })
}
