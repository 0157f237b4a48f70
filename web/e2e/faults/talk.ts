// A call like any other, before something breaks and when it has healed.

import { expect } from 'vitest'
import type { BrowserName } from '../browsers.ts'
import { seeAndHearEachOther } from '../media.ts'
import type { People } from '../people.ts'
import { connect, type Person } from '../person.ts'

// A page says so when its server is away.
export const noServer =
  /WebSocket|ERR_CONNECTION|Failed to load resource|can’t establish a connection|NetworkError/

export async function talk(
  people: People,
  browser: BrowserName = 'chromium',
): Promise<[Person, Person]> {
  const ann = await people.enter('Ann', { browser, direct: true })
  const bob = await people.enter('Bob', { direct: true })
  await connect(ann, bob)
  await seeAndHearEachOther(ann, bob)
  return [ann, bob]
}

/** What one does reaches the other through the server; how long that took. */
export async function areJoined(one: Person, other: Person): Promise<void> {
  await one.press('Mute')
  await other.reads(`${one.name}’s microphone is off`)
  await one.press('Mute')
  await other.readsNoMore(`${one.name}’s microphone is off`)
}

export async function rests(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms))
}

/** What the server has of somebody's calls of the past. */
export function pastCalls(person: Person): Promise<{ reason: string; durationMs: number }[]> {
  return person.page.evaluate(async () => {
    const token = Object.entries(localStorage).find(([key]) => key.startsWith('visavis.token'))?.[1]
    const answer = await fetch('/v1/calls', { headers: { authorization: `Bearer ${token}` } })
    const { calls } = (await answer.json()) as { calls: { reason: string; durationMs: number }[] }
    return calls
  })
}

/** The call ends as it should, and each has it once among those of the past, of that length at least. */
export async function endsAsOne(one: Person, other: Person, seconds: number): Promise<void> {
  await one.press('Hang up')
  await one.reads('You hung up.')
  await other.reads(`${one.name} hung up.`)
  for (const person of [one, other]) {
    const calls = await pastCalls(person)
    expect(calls).toHaveLength(1)
    expect(calls[0]?.reason).toBe('hungup')
    expect(calls[0]?.durationMs).toBeGreaterThan(seconds * 1000)
  }
}
