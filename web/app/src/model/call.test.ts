import type { EndDetail } from 'visavis'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { FakeCall } from '../fake.ts'
import { CallModel } from './call.ts'
import { askingToldMs } from './devices.ts'
import { standstillShownMs, standstillToldMs } from './interruption.ts'

const bob = { id: 'ubo7', name: 'Bob' }

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

function make(call: FakeCall, preview?: () => Promise<MediaStream | undefined>) {
  const ends: EndDetail[] = []
  const model = new CallModel(call, (_, end) => ends.push(end))
  if (preview) void model.look(preview)
  return { model, ends }
}

test('it follows the call and counts its seconds', () => {
  const call = new FakeCall('out', bob)
  const { model } = make(call)
  expect(model.state.value).toBe('calling')
  call.become('ringing')
  expect(model.state.value).toBe('ringing')
  call.become('connecting')
  call.become('connected')
  vi.advanceTimersByTime(75_300)
  expect(model.seconds.value).toBe(75)
})

test('a standstill is counted once it is long enough to be told', () => {
  const call = new FakeCall('out', bob)
  const { model } = make(call)
  call.become('connected')
  vi.advanceTimersByTime(60_000)
  call.become('reconnecting')
  vi.advanceTimersByTime(standstillShownMs - 300)
  expect(model.interruption.seconds.value).toBe(0)
  vi.advanceTimersByTime(2300)
  expect(model.interruption.seconds.value).toBe(7)
  call.become('connected')
  expect(model.interruption.seconds.value).toBe(0)
})

test('the buttons answer before the devices do', async () => {
  const call = new FakeCall('out', bob)
  let started = () => {}
  call.setVideo = () =>
    new Promise((resolve) => {
      started = resolve
    })
  const { model } = make(call)
  call.become('connected')
  call.change({ cameraOn: false })
  model.toggleVideo()
  expect(model.devices.shown.value.video).toBe(true)
  call.change({}) // something else changes in the meantime
  expect(model.devices.shown.value.video).toBe(true)
  call.problems = [{ kind: 'video', cause: 'busy' }]
  started()
  await vi.advanceTimersByTimeAsync(0)
  expect(model.devices.shown.value.video).toBe(false)
})

test('devices that are being asked for are not shown as off', () => {
  const call = new FakeCall('out', bob)
  call.micOn = false
  call.cameraOn = false
  const { model } = make(call)
  expect(model.devices.shown.value).toMatchObject({ audio: false, video: false })
  call.change({ opening: { audio: true, video: true } })
  expect(model.devices.shown.value).toMatchObject({ audio: true, video: true })
  call.change({
    micOn: true,
    opening: { audio: false, video: false },
    problems: [{ kind: 'video', cause: 'denied' }],
  })
  expect(model.devices.shown.value).toMatchObject({ audio: true, video: false })
  call.change({ micOn: false })
  expect(model.devices.shown.value.audio).toBe(false)
})

test('accepting hands the preview to the call, which is asked for no picture by voice', async () => {
  const call = new FakeCall('in', bob)
  const track = { stop: vi.fn() } as unknown as MediaStreamTrack
  const stream = new MediaStream()
  stream.getTracks = () => [track]
  const { model } = make(call, async () => stream)
  await vi.advanceTimersByTimeAsync(0)
  expect(model.preview.stream.value).toBe(stream)
  model.accept(false)
  expect(call.acts).toEqual(['accept voice'])
  expect(call.adopted).toEqual([track])
  expect(track.stop).not.toHaveBeenCalled()
  expect(model.preview.stream.value).toBeUndefined()
  expect(model.devices.shown.value.video).toBe(false)
})

test('a preview that comes too late is stopped', async () => {
  const call = new FakeCall('in', bob)
  const stop = vi.fn()
  const stream = new MediaStream()
  stream.getTracks = () => [{ stop } as unknown as MediaStreamTrack]
  const { model } = make(call, async () => stream)
  model.ignore()
  await vi.advanceTimersByTimeAsync(0)
  expect(stop).toHaveBeenCalledOnce()
  expect(model.preview.stream.value).toBeUndefined()
  expect(call.acts).toEqual([])
})

test('an end is told once, and nothing is listened to afterwards', () => {
  const call = new FakeCall('out', bob)
  const { ends } = make(call)
  call.finish('declined', 'peer')
  call.finish('hungup', 'peer')
  expect(ends.map((end) => end.reason)).toEqual(['declined'])
  expect(call.heard).toBe(0)
  expect(vi.getTimerCount()).toBe(0)
})

test('the small picture goes from corner to corner', () => {
  const { model } = make(new FakeCall('out', bob))
  expect(model.layout.corner.value).toBe('bottom-right')
  model.layout.nudge('left')
  expect(model.layout.corner.value).toBe('bottom-left')
  model.layout.nudge('top')
  expect(model.layout.corner.value).toBe('top-left')
  model.layout.nudge('top')
  expect(model.layout.corner.value).toBe('top-left')
  model.layout.nudge('right')
  expect(model.layout.corner.value).toBe('top-right')
})

test('without a picture of mine nothing is swapped', () => {
  const call = new FakeCall('out', bob)
  const { model } = make(call)
  call.become('connected')
  model.layout.swap()
  expect(model.layout.swapped.value).toBe(true)
  call.change({ cameraOn: false })
  expect(model.layout.swapped.value).toBe(false)
})

test('the bar stays while a sentence speaks of its buttons', () => {
  const call = new FakeCall('out', bob)
  const { model } = make(call)
  call.become('connected')
  call.change({ cameraOn: false, problems: [{ kind: 'video', cause: 'busy' }] })
  vi.advanceTimersByTime(60_000)
  expect(model.layout.bar.shown.value).toBe(true)
  model.devices.dismiss()
  vi.advanceTimersByTime(60_000)
  expect(model.layout.bar.shown.value).toBe(false)
})

test('a standstill is told at once, for the SDK has waited; a reload of the other page when it lasts', () => {
  const call = new FakeCall('out', bob)
  const { model } = make(call)
  call.become('connected')
  expect(model.interruption.still.value).toBe(false)
  call.become('reconnecting')
  expect(model.interruption.still.value).toBe(true)
  expect(model.interruption.returning.value).toBe(false)
  call.become('connected')
  call.peerMedia = { audio: true, video: true, connection: 'reloading' }
  call.become('reconnecting')
  vi.advanceTimersByTime(standstillToldMs - 250)
  expect(model.interruption.still.value).toBe(false)
  vi.advanceTimersByTime(250)
  expect(model.interruption.still.value).toBe(true)
  call.become('connected')
  expect(model.interruption.still.value).toBe(false)
})

test('a call taken up after a reload says so until it has media', () => {
  const call = new FakeCall('in', bob)
  call.state = 'reconnecting'
  const { model } = make(call)
  expect(model.interruption.returning.value).toBe(true)
  expect(model.interruption.still.value).toBe(true)
  call.become('connected')
  expect(model.interruption.returning.value).toBe(false)
  call.become('reconnecting')
  expect(model.interruption.returning.value).toBe(false)
})

test('a device that the person is asked for and does not answer is told, and not shown as on', async () => {
  const call = new FakeCall('out', bob)
  const { model } = make(call)
  call.change({ micOn: false, cameraOn: false, opening: { audio: true, video: true } })
  expect(model.devices.shown.value).toMatchObject({ audio: true, video: true })
  await vi.advanceTimersByTimeAsync(askingToldMs + 300)
  expect(model.devices.shown.value).toMatchObject({
    audio: false,
    video: false,
    asking: { audio: true, video: true },
  })
  call.change({ micOn: true, cameraOn: true, opening: { audio: false, video: false } })
  expect(model.devices.shown.value).toMatchObject({
    audio: true,
    video: true,
    asking: { audio: false, video: false },
  })
})
