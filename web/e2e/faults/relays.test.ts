// A relay that stands alone, and goes in the middle of a call that needs one.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { describe } from 'vitest'
import { seeAndHearEachOther } from '../media.ts'
import { connect } from '../person.ts'
import { scene } from '../scene.ts'
import { program } from '../server.ts'
import { until } from '../until.ts'
import { healed } from './table.ts'
import { mind, moves, standstill } from './watch.ts'

Object.assign(process.env, { VISAVIS_RELAY_SECRET: 'two relays share this' })

interface Relay {
  readonly process: ChildProcess
  readonly url: string
}

async function startRelay(): Promise<Relay> {
  const started = spawn(
    program,
    ['relay', '--listen', '127.0.0.1:0', '--relay-listen', '127.0.0.1:0'],
    { stdio: ['ignore', 'pipe', 'ignore'] },
  )
  let out = ''
  started.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text
  })
  const url = await until(
    'the relay says where it is',
    () => /turn:\S+transport=udp/.exec(out)?.[0],
    (said) => said !== undefined,
  )
  return { process: started, url: url ?? '' }
}

async function end({ process }: Relay): Promise<void> {
  if (process.exitCode !== null || process.signalCode !== null) return
  const exit = once(process, 'exit')
  process.kill('SIGKILL')
  await exit
}

describe('with two relays', async () => {
  const relays = [await startRelay(), await startRelay()] as const
  const others = relays.map(({ url }) => url).join()
  scene.override('flags', ['--relay-enabled=false', '--relay-others', others])

  scene('the one that a call uses is gone', async ({ people, onTestFinished }) => {
    onTestFinished(async () => {
      for (const relay of relays) await end(relay)
    })
    people.forgive(/was to use the ICE server turn:127\.0\.0\.1/)
    const ann = await people.enter('Ann', { relay: 'udp' })
    const bob = await people.enter('Bob', { relay: 'udp' })
    await connect(ann, bob)
    await seeAndHearEachOther(ann, bob)
    await mind(ann, bob)
    await end(relays[0])
    await Promise.all([moves(ann), moves(bob)])
    await healed('relay gone: standstill of the picture, then over the other one', [
      await standstill(ann, bob),
    ])
    await seeAndHearEachOther(ann, bob)
  })
})
