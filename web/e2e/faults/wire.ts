import { once } from 'node:events'
import { createServer, type Server as Listener, Socket } from 'node:net'

/** What a page's connections to the server go through, so that a test can cut them, or hold up those of signaling. */
export class Wire {
  /** Where a page is got from, to come through here. */
  readonly origin: string
  /** What was asked of the server through here, such as `GET /v1/calls`, in order. */
  readonly asked: string[] = []
  /** How many bytes pages have said on signaling connections that were held up. */
  heldBytes = 0

  readonly #listener: Listener
  readonly #sockets = new Set<Socket>()
  #whole = true
  #holds = false

  private constructor(listener: Listener, origin: string) {
    this.#listener = listener
    this.origin = origin
  }

  static async to(server: string): Promise<Wire> {
    const { port, hostname } = new URL(server)
    const listener = createServer()
    listener.listen(0, '127.0.0.1')
    await once(listener, 'listening')
    const address = listener.address()
    if (address === null || typeof address === 'string') throw new Error('unreachable: it is TCP')
    const wire = new Wire(listener, `http://${hostname}:${address.port}`)
    listener.on('connection', (near) => wire.#join(near, Number(port)))
    return wire
  }

  /** From now on nothing comes through. */
  cut(): void {
    this.#whole = false
    for (const socket of this.#sockets) socket.destroy()
  }

  mend(): void {
    this.#whole = true
  }

  /** From now on no signaling comes through, neither words nor that a page has closed its connection; all else does. */
  holdSignaling(): void {
    this.#holds = true
  }

  /** Lets signaling connections through that are made from now on. */
  letGo(): void {
    this.#holds = false
  }

  async close(): Promise<void> {
    this.cut()
    const closed = once(this.#listener, 'close')
    this.#listener.close()
    await closed
  }

  #join(near: Socket, port: number): void {
    if (!this.#whole) {
      near.destroy()
      return
    }
    const far = new Socket()
    let signaling = false
    let stuck = false
    // Once something was held back, what comes after it must not come through either.
    const holds = () => {
      stuck ||= signaling && this.#holds
      return stuck
    }
    near.on('data', (data) => {
      const request = /^([A-Z]+ \S+) HTTP\/1\.1\r\n/.exec(data.toString('latin1'))?.[1]
      if (request !== undefined) this.asked.push(request)
      signaling ||= request === 'GET /v1/signal'
      if (holds()) this.heldBytes += data.length
      else far.write(data)
    })
    far.on('data', (data) => {
      if (!holds()) near.write(data)
    })
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(one)
      one.setNoDelay()
      one.on('end', () => {
        if (!holds()) other.end()
      })
      one.on('error', () => one.destroy())
      one.on('close', () => {
        this.#sockets.delete(one)
        if (!holds()) other.destroy()
      })
    }
    far.connect(port, '127.0.0.1')
  }
}
