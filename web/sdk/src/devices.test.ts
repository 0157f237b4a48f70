import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { openCamera, openDevices } from './devices.ts'
import { type FakeDevices, fakeBrowser } from './fakes.ts'

let devices: FakeDevices

beforeEach(() => {
  devices = fakeBrowser()
})

afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
})

const together = 'audio+video'
const alone = [together, 'audio', 'video']

test.each<[string, Record<string, string>, string[], string[], string[]]>([
  ['all is well', {}, [together], ['audio', 'video'], []],
  ['no camera', { video: 'NotFoundError' }, alone, ['audio'], ['video missing']],
  ['camera in use', { video: 'NotReadableError' }, alone, ['audio'], ['video busy']],
  ['no fitting camera', { video: 'OverconstrainedError' }, alone, ['audio'], ['video missing']],
  ['no microphone', { audio: 'NotFoundError' }, alone, ['video'], ['audio missing']],
  [
    'the person says no',
    { audio: 'NotAllowedError', video: 'NotAllowedError' },
    alone,
    [],
    ['audio denied', 'video denied'],
  ],
  ['something else', { video: 'AbortError' }, alone, ['audio'], ['video failed']],
])('%s', async (_, given, asked, tracks, problems) => {
  for (const [kind, name] of Object.entries(given)) devices.problems.set(kind, name)
  const opened = await openDevices(['audio', 'video'])
  expect(devices.asked).toEqual(asked)
  expect(opened.tracks.map(({ kind }) => kind)).toEqual(tracks)
  expect(opened.problems.map(({ kind, cause }) => `${kind} ${cause}`)).toEqual(problems)
})

test('one kind is asked once', async () => {
  devices.problems.set('video', 'NotReadableError')
  const opened = await openDevices(['video'])
  expect(devices.asked).toEqual(['video'])
  expect(opened).toEqual({ tracks: [], problems: [{ kind: 'video', cause: 'busy' }] })
})

test('a camera shows what moves', async () => {
  const opened = await openDevices(['audio', 'video'])
  expect(opened.tracks.map(({ contentHint }) => contentHint)).toEqual(['', 'motion'])
})

test('a preview asks nobody', async () => {
  const permissions = { query: vi.fn(async () => ({ state: 'prompt' })) }
  vi.stubGlobal('navigator', { mediaDevices: devices, permissions })
  expect(await openCamera()).toBeUndefined()
  expect(devices.asked).toEqual([])
  permissions.query.mockResolvedValue({ state: 'granted' })
  expect((await openCamera())?.getTracks()).toMatchObject([
    { kind: 'video', contentHint: 'motion' },
  ])
  devices.problems.set('video', 'NotReadableError')
  expect(await openCamera()).toBeUndefined()
  permissions.query.mockRejectedValue(new TypeError('no such name'))
  expect(await openCamera()).toBeUndefined()
})

test('a page that is not secure has no devices', async () => {
  vi.stubGlobal('navigator', {})
  const { tracks, problems } = await openDevices(['audio', 'video'])
  expect(tracks).toEqual([])
  expect(problems.map(({ cause }) => cause)).toEqual(['insecure', 'insecure'])
})
