// What was broken and how long it took to heal: a line for each, printed when all is over.

import { appendFile, mkdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { out } from '../browsers.ts'

const file = join(out, 'faults.jsonl')

interface Line {
  readonly fault: string
  readonly ms: readonly number[]
}

/** How often a fault is tried: `all` times by `make faults`, fewer in between. */
export function times(all: number, few = 1): number {
  const { FAULTS } = process.env
  return FAULTS === 'all' ? all : few
}

/** Writes down how long it took each time. */
export async function healed(fault: string, ms: readonly number[]): Promise<void> {
  await mkdir(out, { recursive: true })
  await appendFile(file, `${JSON.stringify({ fault, ms } satisfies Line)}\n`)
}

export async function clear(): Promise<void> {
  await rm(file, { force: true })
}

export async function print(): Promise<void> {
  const text = await readFile(file, 'utf8').catch(() => '')
  const lines = text.split('\n').filter((line) => line !== '')
  const rows = lines.map((line) => JSON.parse(line) as Line)
  if (rows.length === 0) return
  const width = Math.max(...rows.map(({ fault }) => fault.length))
  console.info(
    `\n${'what was broken'.padEnd(width)}  times    p50    p95    max  (ms until healed)`,
  )
  for (const { fault, ms } of rows) {
    const sorted = [...ms].sort((a, b) => a - b)
    const at = (share: number) => sorted[Math.ceil(share * sorted.length) - 1] ?? 0
    const figures = [at(0.5), at(0.95), at(1)]
      .map((n) => String(Math.round(n)).padStart(7))
      .join('')
    console.info(`${fault.padEnd(width)}  ${String(ms.length).padStart(5)}${figures}`)
  }
}
