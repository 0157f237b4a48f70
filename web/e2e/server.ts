import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { SocketWatch } from './sockets.ts'
import { until } from './until.ts'

const program = fileURLToPath(new URL('../../bin/visavis', import.meta.url))

/** A running visavis, on ports that were free and with a data folder of its own. */
export class Server {
  /** What it wrote to standard error. */
  log = ''
  /** Where its page is, such as http://localhost:41234. */
  readonly origin: string
  /** Host and port of its relay. */
  readonly relay: string

  readonly #process: ChildProcess
  readonly #data: string
  readonly #sockets: SocketWatch

  private constructor(started: ChildProcess, data: string, origin: string, relay: string) {
    this.#process = started
    this.#data = data
    this.origin = origin
    this.relay = relay
    this.#sockets = new SocketWatch(started.pid ?? 0, [portOf(origin), portOf(relay)])
  }

  /** Starts it with these flags and waits until it serves. */
  static async start(flags: readonly string[] = []): Promise<Server> {
    accessSync(program)
    const data = await mkdtemp(join(tmpdir(), 'visavis-e2e-'))
    const own = ['--listen', '127.0.0.1:0', '--relay-listen', '127.0.0.1:0', '--data', data]
    const rates = ['--call-rings-per-minute', '60']
    const started = spawn(program, ['serve', ...own, ...rates, ...flags], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const end = () => started.kill('SIGKILL')
    process.once('exit', end)
    started.once('exit', () => process.off('exit', end))
    let out = ''
    let log = ''
    let server: Server | undefined
    started.stdout.setEncoding('utf8').on('data', (text: string) => {
      out += text
    })
    started.stderr.setEncoding('utf8').on('data', (text: string) => {
      if (server) server.log += text
      else log += text
    })
    const addresses = await until(
      'the server says where it is',
      () => {
        if (started.exitCode !== null) throw new Error(`the server did not start:\n${log}`)
        return {
          origin: /^Visavis is at (\S+)$/m.exec(out)?.[1],
          relay: /turn:([^\s?]+)\?/.exec(log)?.[1],
        }
      },
      ({ origin, relay }) => origin !== undefined && relay !== undefined,
    )
    server = new Server(started, data, addresses.origin ?? '', addresses.relay ?? '')
    server.log = log
    const ready = `${server.origin}/readyz`
    await until(
      'the server is ready',
      () => fetch(ready),
      ({ ok }) => ok,
    )
    return server
  }

  /** Of which kinds sockets of it were seen so far. */
  get watched(): string[] {
    return [...this.#sockets.kinds]
  }

  /** Stops it as an operator would, and tells what it did wrong in its life. */
  async stop(): Promise<string[]> {
    const wrong = [...this.#sockets.stop()]
    try {
      const metrics = await (await fetch(`${this.origin}/metrics`)).text()
      for (const [line] of metrics.matchAll(/^visavis_\w*panics_total [^0].*$/gm)) wrong.push(line)
    } catch (error) {
      wrong.push(`the server did not live until the end: ${String(error)}`)
    }
    if (this.#process.exitCode === null) {
      const exit = once(this.#process, 'exit')
      const kill = setTimeout(() => this.#process.kill('SIGKILL'), 10_000)
      this.#process.kill('SIGTERM')
      await exit
      clearTimeout(kill)
    }
    const { exitCode, signalCode } = this.#process
    if (exitCode !== 0) wrong.push(`the server ended with ${exitCode ?? signalCode}`)
    for (const line of this.log.split('\n')) {
      if (/panic|level=ERROR|DATA RACE/.test(line)) wrong.push(`the server's log: ${line}`)
    }
    await rm(this.#data, { recursive: true, force: true })
    return wrong
  }
}

function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(':') + 1))
}
