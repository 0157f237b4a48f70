// A little internet of network namespaces: this process and the server stand in the middle of it, and each person has a
// machine of their own. Stands on what run.sh has made.

import { execFile } from 'node:child_process'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type Browser, chromium } from 'playwright-core'
import { chromiumArguments, inPath } from '../browsers.ts'

const run = promisify(execFile)

async function ip(words: string): Promise<void> {
  await run('ip', words.split(' '))
}

/** Where the server stands. */
export const middle = '10.77.0.1'

/** What the relay may reach there, though it is private. */
export const everywhere = '10.77.0.0/16'

/** A machine with one way to the middle or two, of which one is up. */
export class Machine {
  readonly name: string
  readonly #number: number
  readonly #folder: string
  #browser: Browser | undefined
  #way = 0
  #translations = 0

  private constructor(name: string, number: number, folder: string) {
    this.name = name
    this.#number = number
    this.#folder = folder
  }

  /** Builds a machine, up by its first way. Numbers go from 1. */
  static async build(name: string, number: number): Promise<Machine> {
    const machine = new Machine(name, number, await mkdtemp(join(tmpdir(), 'visavis-machine-')))
    await ip(`netns add ${name}`)
    await ip(`-n ${name} link set lo up`)
    for (const way of [0, 1]) {
      const here = machine.#here(way)
      await ip(`link add ${here} type veth peer name way${way} netns ${name}`)
      await ip(`addr add ${machine.#address(way, 1)}/24 dev ${here}`)
      await ip(`link set ${here} up`)
    }
    await machine.#up(0)
    return machine
  }

  /** A browser on this machine; it gives pages of the server camera and microphone. */
  async browser(origin: string): Promise<Browser> {
    const start = join(this.#folder, 'chromium')
    await writeFile(
      start,
      `#!/bin/sh\nexec ip netns exec ${this.name} ${inPath('chromium')} "$@"\n`,
    )
    await chmod(start, 0o700)
    this.#browser = await chromium.launch({
      executablePath: start,
      args: [...chromiumArguments, `--unsafely-treat-insecure-origin-as-secure=${origin}`],
    })
    return this.#browser
  }

  /** Goes over to the other way, which has another address: as from Wi-Fi to mobile. The old address goes with its way. */
  async switch(): Promise<void> {
    await ip(`-n ${this.name} link set way${this.#way} down`)
    await ip(`-n ${this.name} addr flush dev way${this.#way}`)
    await this.#up(1 - this.#way)
  }

  /** Drops what this machine sends and gets by UDP; TCP still passes. */
  async blockUDP(): Promise<void> {
    await this.#drop('meta l4proto udp')
  }

  /** Drops RTP and RTCP alone, by their first byte (RFC 7983), as some firewalls do; STUN and the relay's packets pass. */
  async blockMedia(): Promise<void> {
    await this.#drop('meta l4proto udp @th,64,8 128-191')
  }

  /** From now on a translator of UDP stands before this machine. Again, it forgets its mappings: what comes for one is lost, and each socket gets another port. */
  async translate(): Promise<void> {
    this.#translations += 1
    const n = this.#translations
    const ways = `{ ${this.#here(0)}, ${this.#here(1)} }`
    const ports = `${40_000 + 1000 * n}-${40_999 + 1000 * n}`
    const outside = [0, 1].map(
      (way) =>
        `add rule ip translator inside iifname ${this.#here(way)} meta l4proto udp ` +
        `snat to ${this.#address(way, 9)}:${ports}\n`,
    )
    // In another zone the kernel knows nothing of the mappings of before.
    await this.#rules(
      'add table ip translator\ndelete table ip translator\nadd table ip translator\n' +
        'add chain ip translator come { type filter hook prerouting priority raw; }\n' +
        'add chain ip translator go { type filter hook output priority raw; }\n' +
        'add chain ip translator inside { type nat hook input priority 100; }\n' +
        `add rule ip translator come iifname ${ways} meta l4proto udp ct zone set ${n}\n` +
        `add rule ip translator go oifname ${ways} meta l4proto udp ct zone set ${n}\n` +
        outside.join(''),
    )
  }

  async #drop(what: string): Promise<void> {
    const here = `{ ${this.#here(0)}, ${this.#here(1)} }`
    const chains = [
      ['input', `iifname ${here}`],
      ['output', `oifname ${here}`],
      ['forward', `iifname ${here}`],
      ['forward', `oifname ${here}`],
    ].map(
      ([hook, at]) =>
        `add chain inet faults ${hook} { type filter hook ${hook} priority 0; }\n` +
        `add rule inet faults ${hook} ${at} ${what} drop\n`,
    )
    await this.#rules(`add table inet faults\n${chains.join('')}`)
  }

  async unblock(): Promise<void> {
    await run('nft', ['delete', 'table', 'inet', 'faults'])
  }

  async remove(): Promise<void> {
    await this.#browser?.close()
    await ip(`netns del ${this.name}`)
    await rm(this.#folder, { recursive: true, force: true })
  }

  async #rules(text: string): Promise<void> {
    const file = join(this.#folder, 'rules')
    await writeFile(file, text)
    await run('nft', ['-f', file])
  }

  #here(way: number): string {
    return `${this.name}${way}`
  }

  #address(way: number, host: number): string {
    return `10.77.${2 * this.#number + way}.${host}`
  }

  async #up(way: number): Promise<void> {
    // In the order of DHCP: a request for the router's MAC address that was lost is not made again for a second.
    await ip(`-n ${this.name} link set way${way} up`)
    await ip(`-n ${this.name} addr replace ${this.#address(way, 2)}/24 dev way${way}`)
    await ip(`-n ${this.name} route replace default via ${this.#address(way, 1)}`)
    this.#way = way
  }
}
