import { VisavisError } from 'visavis'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { FakeCall, FakeClient } from '../fake.ts'
import { Settings } from '../settings.ts'
import { goesAfterMs } from './after.ts'
import { App, rejoinsMs, returnsMs } from './app.ts'

const bob = { id: 'ubo7', name: 'Bob', presence: 'online' } as const
const taken = new VisavisError('name_taken', 'somebody has that name')

beforeEach(() => {
  localStorage.clear()
  sessionStorage.clear()
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

function make(name = '') {
  const client = new FakeClient()
  const settings = new Settings(localStorage, sessionStorage)
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

test('who was signed out elsewhere stands at the door, reads why, and is forgotten', async () => {
  const { app, client, settings } = await inside()
  client.become('refused', new VisavisError('signed_out', 'Signed out.'))
  expect(app.screen.value).toBe('door')
  expect(app.refusal.value?.code).toBe('signed_out')
  expect(settings.name).toBe('')
})

test('signing out everywhere leaves without a word of error', async () => {
  const { app, client, settings } = await inside()
  client.refusals = [new VisavisError('unavailable', 'later.')]
  await app.signOut()
  expect(app.screen.value).toBe('home')
  expect(app.signOutRefusal.value?.code).toBe('unavailable')
  const out = app.signOut()
  expect(app.signingOut.value).toBe(true)
  await out
  expect(app.screen.value).toBe('door')
  expect([app.refusal.value, app.signOutRefusal.value]).toEqual([undefined, undefined])
  expect(app.signingOut.value).toBe(false)
  expect(client.forgot).toBe(true)
  expect(settings.name).toBe('')
})

test('another name is taken on without leaving', async () => {
  const { app, client, settings } = await inside()
  const states: string[] = []
  client.on('state', () => states.push(client.state))
  const screens: string[] = []
  app.screen.subscribe((screen) => screens.push(screen))
  await app.rename('Anna')
  expect(screens).toEqual(['home'])
  expect(app.user.value?.name).toBe('Anna')
  expect(settings.name).toBe('Anna')
  expect(app.renamed.value).toBe(true)
  expect(states).toEqual([])
})

test('a name can be changed in a call, which goes on', async () => {
  const { app, client } = await inside()
  app.ring(bob, true)
  const call = client.call as FakeCall
  call.become('connected')
  await app.rename('Anna')
  expect(app.user.value?.name).toBe('Anna')
  expect(call.acts).toEqual([])
  expect(app.screen.value).toBe('call')
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
  expect(client.forgot).toBe(true)
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

const carla = { id: 'uca1', name: 'Carla' }

/** A call with Bob that is on, and one of Carla's that waits. */
async function waited({ video = true } = {}) {
  const all = await inside()
  all.app.ring(bob, true)
  const first = all.client.call as FakeCall
  first.become('connected')
  const second = new FakeCall('in', carla, { waiting: true, video })
  all.client.rings(second)
  return { ...all, first, second }
}

test('a call that waits takes nothing from the one that is on', async () => {
  const { app, first, second } = await waited()
  expect(app.screen.value).toBe('call')
  expect(app.call.value?.shows(first)).toBe(true)
  expect(app.waiting.value?.shows(second)).toBe(true)
  expect(app.waiting.value?.elsewhere.value).toBeUndefined()
  vi.advanceTimersByTime(60_000)
  expect(app.call.value?.layout.bar.shown.value).toBe(true)
})

test('accepting the one that waits ends the other, without a card and without the door', async () => {
  const { app, first, second } = await waited()
  const screens: string[] = []
  app.screen.subscribe((screen) => screens.push(screen))
  app.acceptWaiting()
  expect(first.acts).toEqual(['hangup'])
  expect(second.acts).toEqual(['accept video'])
  expect(app.call.value?.shows(second)).toBe(true)
  expect(app.waiting.value).toBeUndefined()
  expect(app.after.value).toBeUndefined()
  expect(screens).toEqual(['call'])
})

test.each([
  ['a camera that is off now stays off', true, false, 'accept voice'],
  ['a voice call stays one', false, true, 'accept voice'],
  ['a camera that is on stays on', true, true, 'accept video'],
])('%s when the other call is accepted', async (_, video, camera, want) => {
  const { app, first, second } = await waited({ video })
  first.change({ cameraOn: camera })
  app.acceptWaiting()
  expect(second.acts).toEqual([want])
})

test('one that waits is declined, and the other goes on', async () => {
  const { app, first, second } = await waited()
  app.waiting.value?.decline()
  expect(second.acts).toEqual(['decline'])
  expect(first.acts).toEqual([])
  expect(app.waiting.value).toBeUndefined()
  expect(app.call.value?.shows(first)).toBe(true)
  expect(app.after.value).toBeUndefined()
})

test('one that waits rings on as any other when the first ends', async () => {
  const preview = vi.fn(async () => undefined)
  const client = new FakeClient()
  const app = new App({
    client,
    settings: Settings.ofThisVisit(),
    secure: true,
    preview,
  })
  await app.enter('Ann')
  client.here(bob)
  app.ring(bob, true)
  const first = client.call as FakeCall
  first.become('connected')
  client.rings(new FakeCall('in', carla, { waiting: true }))
  expect(preview).not.toHaveBeenCalled()
  first.finish('hungup', 'peer', 61_000)
  expect(app.screen.value).toBe('ringing')
  expect(app.call.value?.peer.name).toBe('Carla')
  expect(app.call.value?.elsewhere.value).toBeUndefined()
  expect(app.waiting.value).toBeUndefined()
  expect(app.after.value).toBeUndefined()
  expect(preview).toHaveBeenCalledOnce()
})

test('a call that the server has noted the end of is in the list', async () => {
  const { client } = await waited()
  const calls = vi.spyOn(client, 'calls')
  client.tell('callrecorded', 'n1-c')
  expect(calls).toHaveBeenCalledOnce()
})

test('one that waits and gives up goes without a word: the list says it', async () => {
  const { app, client, first, second } = await waited()
  const fetched = vi.spyOn(client, 'calls')
  second.finish('canceled', 'peer')
  expect(app.waiting.value).toBeUndefined()
  expect(app.call.value?.shows(first)).toBe(true)
  expect(app.after.value).toBeUndefined()
  expect(fetched).toHaveBeenCalledOnce()
  first.finish('hungup', 'peer')
  expect(app.after.value?.peer.name).toBe('Bob')
})

test('who is in a call on another device is told that accepting ends it', async () => {
  const { app, client } = await inside()
  client.rings(new FakeCall('in', carla, { waiting: true }))
  expect(app.screen.value).toBe('ringing')
  expect(app.call.value?.elsewhere.value).toBe('device')
})

test('who is in a call in another tab is told so', async () => {
  const { app, client } = await inside()
  const call = new FakeCall('in', carla, { waiting: true })
  client.rings(call)
  call.change({ otherTabInCall: true })
  expect(app.call.value?.elsewhere.value).toBe('tab')
})

/** A page that was loaded anew while a call with Bob was on. */
async function reloaded() {
  const { app, client } = await inside()
  app.ring(bob, true)
  ;(client.call as FakeCall).become('connected')
  return make('Ann')
}

/** The call that the SDK takes up again. */
function takenUp(direction: 'in' | 'out' = 'in'): FakeCall {
  const call = new FakeCall(direction, bob)
  call.state = 'reconnecting'
  call.acceptedAt = performance.now() - 61_000
  return call
}

test('a page loaded anew in a call shows the call, and nothing else before it', async () => {
  const { app, client } = await reloaded()
  const screens: string[] = []
  app.screen.subscribe((screen) => screens.push(screen))
  expect(app.returning.value?.name).toBe('Bob')
  await app.start()
  client.takes(takenUp())
  expect(screens).toEqual(['returning', 'call'])
  expect(app.returning.value).toBeUndefined()
  expect(app.call.value?.interruption.returning.value).toBe(true)
  expect(app.call.value?.seconds.value).toBe(61)
  vi.advanceTimersByTime(returnsMs)
  expect(app.screen.value).toBe('call')
  ;(client.call as FakeCall).finish('hungup', 'peer')
  expect(app.screen.value).toBe('home')
})

test('a call may be there before the page has come in', async () => {
  const { app, client } = await reloaded()
  client.silent = true
  void app.start()
  client.takes(takenUp('out'))
  expect(app.screen.value).toBe('call')
})

test('a call that does not come back gives way to the people', async () => {
  const { app } = await reloaded()
  await app.start()
  vi.advanceTimersByTime(rejoinsMs - 1)
  expect(app.screen.value).toBe('returning')
  vi.advanceTimersByTime(1)
  expect(app.screen.value).toBe('home')
  expect(make('Ann').app.returning.value).toBeUndefined()
})

test('a server that is away for long is told at the door, and the call comes back nonetheless', async () => {
  const { app, client } = await reloaded()
  client.silent = true
  void app.start()
  client.become('offline')
  expect(app.screen.value).toBe('returning')
  vi.advanceTimersByTime(returnsMs)
  expect(app.screen.value).toBe('door')
  client.takes(takenUp())
  expect(app.screen.value).toBe('call')
})

test('a call that was hung up is not waited for', async () => {
  const { app, client } = await inside()
  app.ring(bob, true)
  ;(client.call as FakeCall).become('connected')
  app.call.value?.hangup()
  expect(make('Ann').app.returning.value).toBeUndefined()
})

test('one that still rang rings on', async () => {
  const { app, client } = make('Ann')
  await app.start()
  const call = new FakeCall('out', bob)
  call.state = 'ringing'
  client.takes(call)
  expect(app.screen.value).toBe('ringing')
  expect(make('Ann').app.returning.value).toBeUndefined()
})

test('what becomes of a ring is the SDK’s to keep, and the page’s to show', async () => {
  const { app, client } = await inside()
  expect(app.choices.prefers.value).toEqual({ whenBusy: 'waiting', doNotDisturb: false })
  app.choices.prefer({ whenBusy: 'busy' })
  app.choices.prefer({ doNotDisturb: true })
  expect(client.prefers).toEqual({ whenBusy: 'busy', doNotDisturb: true })
  expect(app.choices.prefers.value).toEqual({ whenBusy: 'busy', doNotDisturb: true })
})

test('what another tab has changed is read again, and a page begins with what was kept', async () => {
  const { app, client } = await inside()
  client.prefer({ doNotDisturb: true })
  app.choices.read()
  expect(app.choices.prefers.value.doNotDisturb).toBe(true)
  const settings = Settings.ofThisVisit()
  expect(new App({ client, settings, secure: true }).choices.prefers.value.doNotDisturb).toBe(true)
})

const late = { answer: 'n1-x2kq', from: { id: 'ubo7', name: 'Bob' }, video: true }

test('who answers on a notification too late reads what became of the call', async () => {
  const { app, client } = await inside()
  client.records = [
    {
      id: 'n1-x2kq',
      peer: late.from,
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
  client.tell('answeredtoolate', late)
  await vi.advanceTimersByTimeAsync(0)
  expect(app.after.value).toMatchObject({ peer: late.from, direction: 'in', video: true })
  expect(app.after.value?.end.reason).toBe('canceled')
  await vi.advanceTimersByTimeAsync(goesAfterMs)
  expect(app.after.value).toBeUndefined()
})

test('a call of which nothing is known is over, and one that is on is not talked over', async () => {
  const { app, client } = await inside()
  client.tell('answeredtoolate', late)
  await vi.advanceTimersByTimeAsync(0)
  expect(app.after.value?.end).toMatchObject({ reason: 'error', error: undefined })
  app.ring(bob, true)
  client.tell('answeredtoolate', late)
  await vi.advanceTimersByTimeAsync(0)
  expect(app.after.value).toBeUndefined()
})

test('a call that was answered on its notification is shown as one that connects', async () => {
  const { app, client } = await inside()
  const call = new FakeCall('in', bob)
  call.accept()
  client.takes(call)
  expect(app.screen.value).toBe('call')
  expect(app.call.value?.state.value).toBe('connecting')
})
