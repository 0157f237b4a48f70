import { readdirSync, readFileSync } from 'node:fs'
import type { Browser, BrowserServer } from 'playwright-core'
import { type BrowserName, connectTo, launch } from '../browsers.ts'
import { until } from '../until.ts'

/**
 * A machine that can sleep, as far as the browser on it can tell: none of its processes runs meanwhile, its timers are late
 * when it wakes, and nothing tells it so. Unlike with a machine that really sleeps its sockets go on taking what fits, and
 * its monotonic clock goes on.
 */
export class Sleeper {
  readonly browser: Browser
  readonly #server: BrowserServer

  private constructor(server: BrowserServer, browser: Browser) {
    this.#server = server
    this.browser = browser
  }

  static async start(name: BrowserName): Promise<Sleeper> {
    const server = await launch(name)
    return new Sleeper(server, await connectTo(name, server.wsEndpoint()))
  }

  /** Sleeps until that is done, and gives when it woke, by Date.now(). */
  async sleepsWhile(others: () => Promise<void>): Promise<number> {
    const stopped = new Set<number>()
    try {
      // One that was forked while the others were stopped is found in the next round.
      await until(
        'all processes of the browser sleep',
        () => {
          const running = this.#processes().filter(({ state }) => state !== 'T' && state !== 'Z')
          for (const { pid } of running) {
            stopped.add(pid)
            process.kill(pid, 'SIGSTOP')
          }
          return running
        },
        (running) => running.length === 0,
      )
      await others()
    } finally {
      for (const pid of stopped) process.kill(pid, 'SIGCONT')
    }
    return Date.now()
  }

  async stop(): Promise<void> {
    await this.#server.close()
  }

  /** The browser's own process and all that descend from it. */
  #processes(): Process[] {
    const all = readdirSync('/proc').flatMap((name) => (/^\d+$/.test(name) ? look(name) : []))
    const tree = all.filter(({ pid }) => pid === this.#server.process().pid)
    for (const { pid } of tree) tree.push(...all.filter(({ parent }) => parent === pid))
    return tree
  }
}

interface Process {
  readonly pid: number
  readonly parent: number
  /** T: stopped, Z: over (proc_pid_stat(5)). */
  readonly state: string
}

function look(pid: string): Process[] {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const [state = '', parent = ''] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return [{ pid: Number(pid), parent: Number(parent), state }]
  } catch {
    return [] // It has just gone.
  }
}
