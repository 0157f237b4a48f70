import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { program } from './server.ts'
import { until } from './until.ts'

/** Relays and the servers that tell them of calls share it. */
const secret = randomBytes(32).toString('base64url')

type Transport = 'udp' | 'tcp' | 'tls'

/** The flags of a server that has no relay but these, reached by one transport. */
export function others(transport: Transport, ...relays: readonly Relay[]): string[] {
  const urls = relays.map((relay) => relay.url(transport)).join()
  const secret = relays[0]?.secretFile ?? ''
  return ['--relay-enabled=false', '--relay-secret-file', secret, '--relay-others', urls]
}

/** A relay that stands alone, on ports that were free. */
export class Relay {
  readonly #urls: readonly string[]
  readonly #process: ChildProcess
  readonly #data: string

  private constructor(process: ChildProcess, data: string, urls: readonly string[]) {
    this.#process = process
    this.#data = data
    this.#urls = urls
  }

  static async start(...flags: readonly string[]): Promise<Relay> {
    const data = await mkdtemp(join(tmpdir(), 'visavis-e2e-'))
    await writeFile(secretIn(data), secret)
    const own = ['--data', data, '--listen', '127.0.0.1:0', '--relay-listen', '127.0.0.1:0']
    const started = spawn(
      program,
      ['relay', ...own, '--relay-secret-file', secretIn(data), ...flags],
      {
        stdio: ['ignore', 'pipe', 'ignore'],
      },
    )
    const end = () => started.kill('SIGKILL')
    process.once('exit', end) // where its tests are left out, nobody else ends it
    started.once('exit', () => process.off('exit', end))
    let out = ''
    started.stdout.setEncoding('utf8').on('data', (text: string) => {
      out += text
    })
    const said = await until(
      'the relay says where it is',
      () => {
        if (started.exitCode !== null) throw new Error(`the relay ended with ${started.exitCode}`)
        return /^The relay is at (.*)$/m.exec(out)?.[1]
      },
      (urls) => urls !== undefined,
    )
    return new Relay(started, data, said?.split(' ') ?? [])
  }

  get secretFile(): string {
    return secretIn(this.#data)
  }

  url(transport: Transport): string {
    const begin = transport === 'tls' ? 'turns:' : 'turn:'
    const end = `?transport=${transport === 'tls' ? 'tcp' : transport}`
    return this.#urls.find((url) => url.startsWith(begin) && url.endsWith(end)) ?? ''
  }

  /** Where the server tells it of calls. */
  port(transport: Transport): number {
    return Number(/:(\d+)\?/.exec(this.url(transport))?.[1])
  }

  /** Has the certificate that it made for itself, PEM. */
  get certificateFile(): string {
    return join(this.#data, 'tls', 'self-signed.pem')
  }

  certificate(): Promise<string> {
    return readFile(this.certificateFile, 'utf8')
  }

  /** Ends it without a word. */
  async kill(): Promise<void> {
    const { exitCode, signalCode } = this.#process
    if (exitCode === null && signalCode === null) {
      const exit = once(this.#process, 'exit')
      this.#process.kill('SIGKILL')
      await exit
    }
    await rm(this.#data, { recursive: true, force: true })
  }
}

function secretIn(data: string): string {
  return join(data, 'secret')
}
