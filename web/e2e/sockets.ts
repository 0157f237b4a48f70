// Looks at what a process is connected to, in /proc of Linux.

import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

const everyMs = 250

interface Socket {
  readonly inode: string
  readonly local: string
  readonly remote: string
}

/**
 * Watches the sockets of a server that has no business with anybody who did not come to it: each TCP socket must be on
 * one of the ports that it listens on, or go to one that the test lets it reach, and no UDP socket connected, as for a
 * question to a name server.
 */
export class SocketWatch {
  /** The kinds of sockets that were seen: tcp, udp. */
  readonly kinds = new Set<string>()

  readonly #pid: number
  readonly #ports: readonly number[]
  readonly #reaches: readonly number[]
  readonly #wrong = new Set<string>()
  readonly #timer: ReturnType<typeof setInterval>

  constructor(pid: number, ports: readonly number[], reaches: readonly number[]) {
    this.#pid = pid
    this.#ports = ports
    this.#reaches = reaches
    this.#timer = setInterval(() => this.#look(), everyMs)
  }

  /** Ends the watch and gives what was wrong. */
  stop(): Iterable<string> {
    clearInterval(this.#timer)
    this.#look()
    return this.#wrong
  }

  #look(): void {
    try {
      const own = this.#inodes()
      for (const protocol of ['tcp', 'tcp6', 'udp', 'udp6']) {
        for (const socket of this.#table(protocol)) {
          if (own.has(socket.inode)) this.#judge(protocol, socket)
        }
      }
    } catch {
      // The process, or one of its sockets, has just gone.
    }
  }

  #judge(protocol: string, { local, remote }: Socket): void {
    this.kinds.add(protocol)
    const wentOut = protocol.startsWith('tcp')
      ? !this.#ports.includes(portOf(local)) && !this.#reaches.includes(portOf(remote))
      : portOf(remote) !== 0 && !nowhere.includes(remote)
    if (wentOut) {
      this.#wrong.add(
        `the server went out by ${protocol}, from ${local} to ${remote} (hexadecimal)`,
      )
    }
  }

  #inodes(): Set<string> {
    const folder = `/proc/${this.#pid}/fd`
    const links = readdirSync(folder).map((fd) => {
      try {
        return readlinkSync(`${folder}/${fd}`)
      } catch {
        return ''
      }
    })
    return new Set(links.flatMap((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1] ?? []))
  }

  #table(protocol: string): Socket[] {
    const [, ...lines] = readFileSync(`/proc/${this.#pid}/net/${protocol}`, 'utf8')
      .trim()
      .split('\n')
    return lines.map((line) => {
      const [, local = '', remote = '', , , , , , , inode = ''] = line.trim().split(/\s+/)
      return { inode, local, remote }
    })
  }
}

// 192.0.2.1 and 2001:db8::1, port 9, as the kernel writes them: a socket that is connected to one asks the kernel for this
// machine's own address, and sends nothing. Nobody is there (RFC 5737, RFC 3849).
const nowhere = ['010200C0:0009', 'B80D0120000000000000000001000000:0009']

function portOf(address: string): number {
  return Number.parseInt(address.slice(address.indexOf(':') + 1), 16)
}
