import { once } from 'node:events'
import { createServer, type Server as Listener, Socket } from 'node:net'

/** What a page's connections to the server go through, so that a test can cut them. */
export class Wire {
  /** Where a page is got from, to come through here. */
  readonly origin: string

  readonly #listener: Listener
  readonly #sockets = new Set<Socket>()
  #whole = true

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
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(one)
      one.setNoDelay().pipe(other)
      one.on('error', () => other.destroy())
      one.on('close', () => {
        this.#sockets.delete(one)
        other.destroy()
      })
    }
    far.connect(port, '127.0.0.1')
  }
}
