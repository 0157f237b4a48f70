import { VisavisError } from 'visavis'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { FakeCall, FakeClient } from '../fake.ts'
import { Settings } from '../settings.ts'
import { goesAfterMs } from './after.ts'
import { App } from './app.ts'

const bob = { id: 'ubo7', name: 'Bob', presence: 'online' } as const
const taken = new VisavisError('name_taken', 'somebody has that name')

beforeEach(() => {
  localStorage.clear()
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

function make(name = '') {
  const client = new FakeClient()
  const settings = new Settings(localStorage)
  if (name !== '') settings.name = name
  const restart = vi.fn()
  const app = new App({ client, settings, secure: true, restart })
  return { client, settings, app, restart }
}

async function inside() {
  const all = make()
  await all.app.start()
  await all.app.enter('Ann')
  all.client.here(bob)
  return all
}

test('a stranger stands at the door until the server lets them in', async () => {
  const { app, settings } = make()
  await app.start()
  expect(app.screen.value).toBe('door')
  expect(app.place.value?.name).toBe('Visavis')
  await app.enter('  Ann ')
  expect(app.screen.value).toBe('home')
  expect(app.user.value?.name).toBe('Ann')
  expect(settings.name).toBe('Ann')
})

test('no name, no knock', async () => {
  const { app, client } = make()
  await app.enter('   ')
  expect(app.refusal.value?.code).toBe('name_missing')
  expect(client.state).toBe('idle')
})

test('a refusal is told at the door and can be mended', async () => {
  const { app, client } = make()
  client.refusals.push(taken)
  await app.enter('Bob')
  expect(app.screen.value).toBe('door')
  expect(app.refusal.value?.code).toBe('name_taken')
  expect(app.entering.value).toBe(false)
  await app.enter('Bob M')
  expect(app.refusal.value).toBeUndefined()
  expect(app.screen.value).toBe('home')
})

test('who was here before comes straight in', async () => {
  const { app } = make('Ann')
  const coming = app.start()
  expect(app.screen.value).toBe('opening')
  await coming
  expect(app.screen.value).toBe('home')
})

test('who was here before and finds nobody sees the door, which says so', () => {
  const { app, client } = make('Ann')
  client.silent = true
  void app.start()
  expect(app.screen.value).toBe('opening')
  client.become('offline')
  expect(app.screen.value).toBe('door')
  expect(app.entering.value).toBe(true)
  expect(app.rememberedName).toBe('Ann')
})

test('a lost connection is told and breaks nothing', async () => {
  const { app, client } = await inside()
  client.become('offline')
  expect(app.disconnected.value).toBe(true)
  expect(app.screen.value).toBe('home')
  expect(app.home.users.value).toEqual([bob])
  client.become('online')
  expect(app.disconnected.value).toBe(false)
})

test('who is turned away later stands at the door again', async () => {
  const { app, client } = await inside()
  client.become('refused', new VisavisError('unauthorized', 'your token has expired'))
  expect(app.screen.value).toBe('door')
  expect(app.refusal.value?.code).toBe('unauthorized')
})

test('another name is taken on without leaving', async () => {
  const { app, settings } = await inside()
  const screens: string[] = []
  app.screen.subscribe((screen) => screens.push(screen))
  await app.rename('Anna')
  expect(screens).toEqual(['home'])
  expect(app.user.value?.name).toBe('Anna')
  expect(settings.name).toBe('Anna')
  expect(app.renamed.value).toBe(true)
})

test('a refused new name leaves the old one', async () => {
  const { app, client, settings } = await inside()
  client.refusals.push(taken)
  await app.rename('Bob')
  expect(app.screen.value).toBe('home')
  expect(app.user.value?.name).toBe('Ann')
  expect(settings.name).toBe('Ann')
  expect(app.refusal.value?.code).toBe('name_taken')
})

test('leaving forgets the person', async () => {
  const { app, client, settings, restart } = await inside()
  app.leave()
  expect(app.screen.value).toBe('door')
  expect(client.state).toBe('idle')
  expect(settings.name).toBe('')
  expect(restart).toHaveBeenCalledOnce()
})

test('a call out: ringing, call, after, home', async () => {
  const { app, client } = await inside()
  app.ring(bob, true)
  expect(client.rung).toEqual(['ubo7 video'])
  expect(app.screen.value).toBe('ringing')
  const call = client.call as FakeCall
  call.become('ringing')
  expect(app.screen.value).toBe('ringing')
  call.become('connecting')
  expect(app.screen.value).toBe('call')
  call.become('connected')
  call.become('reconnecting')
  expect(app.screen.value).toBe('call')
  call.finish('hungup', 'peer', 61_000)
  expect(app.screen.value).toBe('home')
  expect(app.call.value).toBeUndefined()
  expect(app.after.value?.end).toMatchObject({ reason: 'hungup', durationMs: 61_000 })
  vi.advanceTimersByTime(goesAfterMs)
  expect(app.after.value).toBeUndefined()
})

test('the card after a call stays under a hand', async () => {
  const { app, client } = await inside()
  app.ring(bob, true)
  ;(client.call as FakeCall).finish('declined', 'peer')
  app.after.value?.hold('pointer', true)
  vi.advanceTimersByTime(10 * goesAfterMs)
  expect(app.after.value).toBeDefined()
  app.after.value?.hold('pointer', false)
  vi.advanceTimersByTime(goesAfterMs)
  expect(app.after.value).toBeUndefined()
})

test('a call that cannot be made is told, too', async () => {
  const { app, client } = await inside()
  const call = new FakeCall('out', bob)
  call.state = 'ended'
  call.end = {
    reason: 'error',
    by: undefined,
    durationMs: 0,
    error: new VisavisError('not_found', 'no such user'),
  }
  client.nextCall = call
  app.ring(bob, true)
  expect(app.screen.value).toBe('home')
  expect(app.after.value?.end.error?.code).toBe('not_found')
})

test('a call in: it rings, is accepted, is over', async () => {
  const { app, client } = await inside()
  const call = new FakeCall('in', bob)
  client.rings(call)
  expect(app.screen.value).toBe('ringing')
  app.call.value?.accept(true)
  expect(call.acts).toEqual(['accept video'])
  expect(app.screen.value).toBe('call')
  app.call.value?.hangup()
  expect(app.screen.value).toBe('home')
})

test('an ignored call rings on elsewhere, silently ends here, and can be looked at again', async () => {
  const { app, client } = await inside()
  const call = new FakeCall('in', bob)
  client.rings(call)
  app.call.value?.ignore()
  expect(app.screen.value).toBe('home')
  expect(call.acts).toEqual([])
  app.ring(bob, true) // instead of a second call
  expect(client.rung).toEqual([])
  expect(app.screen.value).toBe('ringing')
  app.call.value?.ignore()
  call.finish('canceled', 'peer')
  expect(app.after.value).toBeUndefined()
  expect(app.call.value).toBeUndefined()
})

test('a call that goes on elsewhere in this page is not told as ended', async () => {
  const { app, client } = await inside()
  app.ring(bob, true)
  ;(client.call as FakeCall).finish('merged')
  expect(app.after.value).toBeUndefined()
})

test('the next call takes the place of the card', async () => {
  const { app, client } = await inside()
  app.ring(bob, true)
  ;(client.call as FakeCall).finish('unanswered')
  expect(app.after.value).toBeDefined()
  client.rings(new FakeCall('in', bob))
  expect(app.after.value).toBeUndefined()
  expect(app.screen.value).toBe('ringing')
})

test('somebody who has gone is called by the name of the last call with them', async () => {
  const { app, client } = await inside()
  client.nextCall = new FakeCall('out', { id: 'uca1', name: '' })
  app.home.recents.value = [
    {
      id: 'n1-1',
      peer: { id: 'uca1', name: 'Carla' },
      direction: 'in',
      video: true,
      rungAt: new Date(),
      acceptedAt: undefined,
      endedAt: new Date(),
      reason: 'canceled',
      durationMs: 0,
      missed: true,
    },
  ]
  app.ring({ id: 'uca1', name: 'Carla' }, true)
  expect(app.call.value?.peer.name).toBe('Carla')
})
