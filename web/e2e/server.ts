import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { SocketWatch } from './sockets.ts'
import { until } from './until.ts'

export const program = fileURLToPath(new URL('../../bin/visavis', import.meta.url))

/** A running visavis, on ports that were free and with a data folder of its own. */
export class Server {
  /** What it wrote to standard error. */
  log = ''
  /** Where its page is, such as http://localhost:41234. */
  readonly origin: string
  /** What its pages may have as ICE servers. */
  readonly relayURLs: readonly string[]

  readonly #data: string
  readonly #flags: readonly string[]
  readonly #reaches: readonly number[]
  readonly #wrong: string[] = []
  #process: ChildProcess
  #sockets: SocketWatch
  #admin = ''

  private constructor(
    started: Started,
    data: string,
    flags: readonly string[],
    reaches: readonly number[],
  ) {
    const { origin, relay } = started
    this.#data = data
    this.#flags = flags
    this.#reaches = reaches
    this.origin = origin
    this.relayURLs = [`stun:${relay}`, `turn:${relay}?transport=udp`, `turn:${relay}?transport=tcp`]
    this.#process = started.process
    this.#sockets = this.#follow(started)
  }

  /**
   * Starts it with these flags, at this address (port 0: one that is free), and waits until it serves; of its own accord
   * it may go to the ports of `reaches` and nowhere else.
   */
  static async start(
    flags: readonly string[],
    address: string,
    reaches: readonly number[] = [],
  ): Promise<Server> {
    accessSync(program)
    const data = await mkdtemp(join(tmpdir(), 'visavis-e2e-'))
    const all = [
      '--data',
      data,
      '--admin-listen',
      '127.0.0.1:0',
      '--call-rings-per-minute',
      '60',
      ...flags,
    ]
    const started = await launch(address, address.replace(/:\d+$/, ':0'), all)
    return new Server(started, data, all, reaches)
  }

  /** Ends it without a word, as a crash or a lost power supply would. */
  async kill(): Promise<void> {
    for (const line of this.#sockets.stop()) this.#wrong.push(line)
    const exit = once(this.#process, 'exit')
    this.#process.kill('SIGKILL')
    await exit
  }

  /** Starts it again after a kill, at its old addresses and on its old data. */
  async restart(): Promise<void> {
    const { host } = new URL(this.origin)
    const relay = this.relayURLs[0]?.replace('stun:', '') ?? ''
    const started = await launch(host.replace('localhost', '127.0.0.1'), relay, this.#flags)
    this.#process = started.process
    this.#sockets = this.#follow(started)
  }

  #follow({ process, origin, relay, admin, log }: Started): SocketWatch {
    this.log += log()
    this.#admin = admin
    process.stderr?.on('data', (text: string) => {
      this.log += text
    })
    return new SocketWatch(
      process.pid ?? 0,
      [portOf(origin), portOf(relay), portOf(admin)],
      this.#reaches,
    )
  }

  /** Of which kinds sockets of it were seen so far. */
  get watched(): string[] {
    return [...this.#sockets.kinds]
  }

  /** Stops it as an operator would, and tells what it did wrong in its life. */
  async stop(): Promise<string[]> {
    const wrong = [...this.#wrong, ...this.#sockets.stop()]
    try {
      const metrics = await (await fetch(`${this.#admin}/metrics`)).text()
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

interface Started {
  readonly process: ChildProcess
  readonly origin: string
  /** Host and port of its relay. */
  readonly relay: string
  /** Where its metrics are. */
  readonly admin: string
  /** What it had written to standard error when it was ready. */
  log(): string
}

async function launch(
  listen: string,
  relayListen: string,
  flags: readonly string[],
): Promise<Started> {
  const started = spawn(
    program,
    ['serve', '--listen', listen, '--relay-listen', relayListen, ...flags],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  )
  const end = () => started.kill('SIGKILL')
  process.once('exit', end)
  started.once('exit', () => process.off('exit', end))
  let out = ''
  let log = ''
  started.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text
  })
  const keep = (text: string) => {
    log += text
  }
  started.stderr.setEncoding('utf8').on('data', keep)
  const {
    origin = '',
    relay = '',
    admin = '',
  } = await until(
    'the server says where it is',
    () => {
      if (started.exitCode !== null) throw new Error(`the server did not start:\n${log}`)
      return {
        origin: /^Visavis is at (\S+)$/m.exec(out)?.[1],
        relay: /turns?:([^\s?]+)\?/.exec(log)?.[1],
        admin: /^Metrics are at (\S+)\/metrics,/m.exec(out)?.[1],
      }
    },
    (said) => said.origin !== undefined && said.relay !== undefined && said.admin !== undefined,
  )
  await until(
    'the server is ready',
    () => fetch(`${origin}/readyz`),
    ({ ok }) => ok,
  )
  return {
    process: started,
    origin,
    relay,
    admin,
    log: () => {
      started.stderr.off('data', keep)
      return log
    },
  }
}

function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(':') + 1))
}
