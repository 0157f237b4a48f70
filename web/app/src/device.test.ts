import { expect, test } from 'vitest'
import { holdDevice } from './device.ts'
import { FakeCall, FakeClient } from './fake.ts'
import { App } from './model/app.ts'
import { Settings } from './settings.ts'
import { en } from './strings/en.ts'

/** All that was promised has come. */
const settled = () => new Promise((resolve) => setTimeout(resolve))

async function inCall() {
  const client = new FakeClient()
  const app = new App({ client, settings: Settings.ofThisVisit(), secure: true })
  const page = Object.assign(new EventTarget(), {
    visibilityState: 'visible' as DocumentVisibilityState,
  })
  const said = { locks: 0, released: 0, microphone: true, camera: true }
  const handlers = new Map<string, (() => void) | null>()
  const wakeLock = {
    request: async () => {
      said.locks++
      return { release: async () => void said.released++ }
    },
  }
  const mediaSession = {
    metadata: null as unknown,
    setActionHandler: (action: string, handler: (() => void) | null) => {
      if (action === 'togglecamera') throw new TypeError('not here')
      handlers.set(action, handler)
    },
    setMicrophoneActive: (on: boolean) => {
      said.microphone = on
    },
    setCameraActive: (on: boolean) => {
      said.camera = on
    },
  }
  const document = page as unknown as Document
  holdDevice(app, { document, wakeLock, mediaSession }, en)
  await app.start()
  await app.enter('Ann')
  const call = new FakeCall('out', { id: 'ubo7', name: 'Bob' })
  client.nextCall = call
  app.ring({ id: 'ubo7', name: 'Bob' }, true)
  expect([said.locks, handlers.size]).toEqual([0, 0])
  call.become('connected')
  await settled()
  return { app, call, page, said, handlers, mediaSession }
}

test('the screen stays on for as long as a call, also after the page was hidden', async () => {
  const { call, page, said } = await inCall()
  expect([said.locks, said.released]).toEqual([1, 0])
  page.visibilityState = 'hidden'
  page.dispatchEvent(new Event('visibilitychange'))
  expect(said.locks).toBe(1)
  page.visibilityState = 'visible'
  page.dispatchEvent(new Event('visibilitychange'))
  await settled()
  expect(said.locks).toBe(2)
  call.finish('hungup', 'peer')
  await settled()
  expect(said.released).toBe(1)
  page.dispatchEvent(new Event('visibilitychange'))
  expect(said.locks).toBe(2)
})

test('a headset’s keys mute and hang up, and the system shows how the devices stand', async () => {
  const { call, said, handlers } = await inCall()
  handlers.get('togglemicrophone')?.()
  expect(said).toMatchObject({ microphone: false, camera: true })
  handlers.get('hangup')?.()
  expect(call.acts).toEqual(['hangup'])
  expect([...handlers.values()]).toEqual([null, null])
})
