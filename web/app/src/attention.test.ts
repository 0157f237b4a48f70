import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { attend } from './attention.ts'
import { FakeCall, FakeClient } from './fake.ts'
import { App } from './model/app.ts'
import { Settings } from './settings.ts'
import { en } from './strings/en.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

async function make() {
  const client = new FakeClient()
  const app = new App({
    client,
    settings: Settings.ofThisVisit(),
    secure: true,
  })
  const heard: string[] = []
  const page = { title: '', hidden: false }
  const outside = {
    badges: [] as number[],
    shown: [] as string[],
    badge: (count: number) => outside.badges.push(count),
    notify: (title: string, body: string) => {
      outside.shown.push(`${title}: ${body}`)
      return () => outside.shown.pop()
    },
  }
  const ringer = {
    play: (tone: string) => heard.push(tone),
    silence: () => heard.push('silence'),
  }
  attend(app, ringer, page, en, outside)
  await app.start()
  await app.enter('Ann')
  return { client, app, heard, page, outside }
}

const bob = { id: 'ubo7', name: 'Bob' }

test('a ring is heard and blinks until it is answered', async () => {
  const { client, app, heard, page } = await make()
  expect(page.title).toBe('Visavis')
  const call = new FakeCall('in', bob)
  client.rings(call)
  expect(heard.at(-1)).toBe('ring')
  expect(page.title).toBe('Bob is calling')
  vi.advanceTimersByTime(1000)
  expect(page.title).toBe('Visavis')
  vi.advanceTimersByTime(1000)
  expect(page.title).toBe('Bob is calling')
  app.call.value?.accept(true)
  expect(heard.at(-1)).toBe('silence')
  vi.advanceTimersByTime(5000)
  expect(page.title).toBe('Call with Bob')
})

test('an ignored ring is quiet', async () => {
  const { client, app, heard, page } = await make()
  client.rings(new FakeCall('in', bob))
  app.call.value?.ignore()
  expect(heard.at(-1)).toBe('silence')
  vi.advanceTimersByTime(5000)
  expect(page.title).toBe('Visavis')
})

test('the caller hears it ring once it rings', async () => {
  const { client, app, heard, page } = await make()
  app.ring(bob, true)
  expect(page.title).toContain('Calling')
  expect(heard).not.toContain('ringback')
  ;(client.call as FakeCall).become('ringing')
  expect(heard.at(-1)).toBe('ringback')
  ;(client.call as FakeCall).finish('declined', 'peer')
  expect(heard.at(-1)).toBe('silence')
})

test('one that waits is heard softly, and seen in the title', async () => {
  const { client, app, heard, page } = await make()
  client.nextCall = new FakeCall('out', bob)
  app.ring(bob, true)
  ;(client.call as FakeCall).become('connected')
  client.rings(new FakeCall('in', { id: 'uca1', name: 'Carla' }, { waiting: true }))
  expect(heard.at(-1)).toBe('waiting')
  expect(page.title).toBe('Carla is calling')
  vi.advanceTimersByTime(1000)
  expect(page.title).toBe('Call with Bob')
  app.acceptWaiting()
  expect(heard.at(-1)).toBe('silence')
  vi.advanceTimersByTime(5000)
  expect(page.title).toBe('Call with Carla')
})

test('it rings as loud as any other once the first call is over', async () => {
  const { client, app, heard } = await make()
  app.ring(bob, true)
  const first = client.call as FakeCall
  first.become('connected')
  client.rings(new FakeCall('in', { id: 'uca1', name: 'Carla' }, { waiting: true }))
  first.finish('hungup', 'peer')
  expect(heard.at(-1)).toBe('ring')
})

test('who is in a call on another device hears it softly', async () => {
  const { client, heard } = await make()
  client.rings(new FakeCall('in', bob, { waiting: true }))
  expect(heard.at(-1)).toBe('waiting')
})

test('a hidden page notifies, unless the worker does', async () => {
  const { client, page, outside } = await make()
  const seen = new FakeCall('in', bob)
  client.rings(seen)
  expect(outside.shown).toEqual([])
  seen.finish('canceled', 'peer')
  page.hidden = true
  const call = new FakeCall('in', bob)
  client.rings(call)
  expect(outside.shown).toEqual(['Bob is calling: Visavis video call'])
  call.finish('canceled', 'peer')
  expect(outside.shown).toEqual([])
  client.push.become('on')
  client.rings(new FakeCall('in', bob))
  expect(outside.shown).toEqual([])
})

test('missed calls stand in the title and on the icon until they are seen', async () => {
  const { client, app, page, outside } = await make()
  const call = { direction: 'in', video: true, acceptedAt: undefined, missed: true } as const
  const end = { reason: 'unanswered', durationMs: 0 } as const
  const rungAt = new Date()
  client.records = [{ id: 'n1-1', peer: bob, rungAt, endedAt: rungAt, ...call, ...end }]
  await app.home.fetchRecents()
  expect([page.title, outside.badges.at(-1)]).toEqual(['(1) Visavis', 1])
  app.home.section.value = 'recents'
  app.home.see()
  expect([page.title, outside.badges.at(-1)]).toEqual(['Visavis', 0])
})
