import type { CallList, CallRecord } from 'visavis'
import { expect, test, vi } from 'vitest'
import { FakeClient } from '../fake.ts'
import { Settings } from '../settings.ts'
import { completesMs, Home } from './home.ts'

const people = [
  { id: 'u1', name: 'Ann', presence: 'online' },
  { id: 'u2', name: 'Zoë Lind', presence: 'busy' },
] as const

test('people are found without regard to case and accents', () => {
  const home = new Home(new FakeClient(), Settings.ofThisVisit())
  home.users.value = people
  home.query.value = ' zoe '
  expect(home.found.value.map((u) => u.id)).toEqual(['u2'])
  home.query.value = 'x'
  expect(home.found.value).toEqual([])
})

test('the chosen person is shown, also when they have gone; else the first', () => {
  const home = new Home(new FakeClient(), Settings.ofThisVisit())
  home.users.value = people
  expect(home.shown.value?.id).toBe('u1')
  home.chosen.value = people[1]
  expect(home.shown.value).toMatchObject({ id: 'u2', presence: 'busy' })
  home.users.value = []
  expect(home.shown.value).toMatchObject({ id: 'u2', name: 'Zoë Lind', presence: 'offline' })
})

function called(...peers: { id: string; name: string }[]): CallRecord[] {
  return peers.map((peer, i) => ({
    id: `n1-${i}`,
    peer,
    direction: 'out',
    video: true,
    rungAt: new Date(),
    acceptedAt: new Date(),
    endedAt: new Date(),
    reason: 'hungup',
    durationMs: 0,
    missed: false,
  }))
}

test('who has rung nobody and taken no call was in none yet, as far as is known', async () => {
  const client = new FakeClient()
  const home = new Home(client, Settings.ofThisVisit())
  const never = async (...records: CallRecord[]) => {
    client.records = records
    await home.fetchRecents()
    return home.neverCalled.value
  }
  expect(home.neverCalled.value).toBe(false)
  const [taken] = called({ id: 'u1', name: 'Ann' })
  if (!taken) throw new Error('one was called')
  const missed = { ...taken, direction: 'in', acceptedAt: undefined, missed: true } as const
  expect(await never()).toBe(true)
  expect(await never(missed)).toBe(true)
  expect(await never(missed, { ...taken, direction: 'in' })).toBe(false)
  expect(await never({ ...taken, acceptedAt: undefined })).toBe(false)
  expect(await never(...Array(50).fill(missed))).toBe(false)
})

test('of those who have gone, they can be called who have accepted my call, or have rung me', async () => {
  const client = new FakeClient()
  const home = new Home(client, Settings.ofThisVisit())
  const [accepted, out, rang, late] = called(
    { id: 'u3', name: 'Accepted' },
    { id: 'u4', name: 'Was only rung' },
    { id: 'u5', name: 'Rang' },
    { id: 'u4', name: 'Was only rung' },
  )
  if (!accepted || !out || !rang || !late) throw new Error('four were called')
  const unanswered = { acceptedAt: undefined, reason: 'unanswered' } as const
  client.records = [
    { ...out, ...unanswered },
    accepted,
    { ...rang, ...unanswered, direction: 'in', missed: true },
  ]
  await home.fetchRecents()
  expect(home.people.value.map(({ id }) => id)).toEqual(['u3', 'u5'])
  client.records = [...client.records, late]
  await home.fetchRecents()
  expect(home.people.value.map(({ id }) => id)).toEqual(['u3', 'u5', 'u4'])
})

test('whom I was in calls with can be called, the last one first, below those who are here', async () => {
  const client = new FakeClient()
  const home = new Home(client, Settings.ofThisVisit())
  const zoe = { id: 'u2', name: 'Zoë Lind' }
  const carla = { id: 'u3', name: 'Carla' }
  client.records = called(zoe, carla, { id: 'u1', name: 'Ann' }, zoe)
  await home.fetchRecents()
  expect(home.people.value).toEqual([
    { ...zoe, presence: 'offline' },
    { ...carla, presence: 'offline' },
    { id: 'u1', name: 'Ann', presence: 'offline' },
  ])
  expect(home.shown.value?.id).toBe('u2')
  home.users.value = people
  expect(home.people.value.map((u) => `${u.id} ${u.presence}`)).toEqual([
    'u2 busy',
    'u1 online',
    'u3 offline',
  ])
  home.query.value = 'carl'
  expect(home.found.value).toEqual([{ ...carla, presence: 'offline' }])
})

test('who came back as another guest stands there once', async () => {
  const client = new FakeClient()
  const home = new Home(client, Settings.ofThisVisit())
  client.records = called(
    { id: 'u9', name: 'ann' },
    { id: 'u8', name: 'Eve' },
    { id: 'u7', name: 'Eve' },
  )
  await home.fetchRecents()
  home.users.value = people
  expect(home.people.value.map(({ id }) => id)).toEqual(['u1', 'u2', 'u8'])
})

test('calls that cannot be fetched are told, and the old ones stay', async () => {
  const client = new FakeClient()
  const home = new Home(client, Settings.ofThisVisit())
  await home.fetchRecents()
  expect(home.recents.value).toEqual([])
  client.calls = () => Promise.reject(new Error('offline'))
  await home.fetchRecents()
  expect(home.recentsLost.value).toBe(true)
  expect(home.recents.value).toEqual([])
})

test('an answer that was overtaken by a newer one is no news', async () => {
  const answers: ((list: CallList) => void)[] = []
  const home = new Home(
    { calls: () => new Promise((resolve) => answers.push(resolve)) },
    Settings.ofThisVisit(),
  )
  const fetches = [home.fetchRecents(), home.fetchRecents()]
  const list = { incomplete: false, at: new Date() }
  answers[1]?.({ ...list, calls: called({ id: 'u3', name: 'Carla' }) })
  answers[0]?.({ ...list, calls: [] })
  await Promise.all(fetches)
  expect(home.recents.value).toHaveLength(1)
})

test('a list of calls that is incomplete says so, and is asked for again', async () => {
  vi.useFakeTimers()
  const client = new FakeClient()
  const home = new Home(client, Settings.ofThisVisit())
  client.incomplete = true
  await home.fetchRecents()
  expect(home.recentsIncomplete.value).toBe(true)
  client.incomplete = false
  client.records = called({ id: 'u3', name: 'Carla' })
  await vi.advanceTimersByTimeAsync(completesMs)
  expect(home.recentsIncomplete.value).toBe(false)
  expect(home.recents.value).toHaveLength(1)
  expect(vi.getTimerCount()).toBe(0)
  vi.useRealTimers()
})

test('calls are dated by the server’s clock, whatever this device’s says', async () => {
  const client = new FakeClient()
  const home = new Home(client, Settings.ofThisVisit())
  const server = new Date(Date.now() - 30 * 3600_000)
  client.calls = async () => ({ calls: [], incomplete: false, at: server })
  await home.fetchRecents()
  expect(Math.abs(+home.now() - +server)).toBeLessThan(60_000)
})

test('missed calls are counted until they are seen', async () => {
  const client = new FakeClient()
  const settings = Settings.ofThisVisit()
  const missed = (i: number) => ({
    id: `n1-${i}`,
    peer: { id: 'ubo7', name: 'Bob' },
    direction: 'in' as const,
    video: true,
    rungAt: new Date(1000 * i),
    acceptedAt: undefined,
    endedAt: new Date(1000 * i),
    reason: 'unanswered' as const,
    durationMs: 0,
    missed: true,
  })
  client.records = [missed(1)]
  const home = new Home(client, settings)
  await home.fetchRecents()
  expect(home.unseen.value).toBe(0) // nobody knows whether they were seen elsewhere
  client.records = [missed(3), { ...missed(2), direction: 'out' }, missed(1)]
  await home.fetchRecents()
  expect(home.unseen.value).toBe(1)

  const later = new Home(client, settings)
  await later.fetchRecents()
  expect(later.unseen.value).toBe(1)
  later.section.value = 'recents'
  later.see()
  expect(later.unseen.value).toBe(0)
  later.section.value = 'people'
  expect([later.unseen.value, settings.seen]).toEqual([0, 3000])
})
