import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Call } from './call.ts'
import {
  beacons,
  bob,
  type FakeDevices,
  FakePeerConnection,
  FakeSocket,
  FakeTrack,
  fakeBrowser,
  settle,
  welcome,
} from './fakes.ts'
import { Visavis } from './visavis.ts'

let devices: FakeDevices
let visavis: Visavis
/** The server's own numbers. */
let seq: number

beforeEach(async () => {
  devices = fakeBrowser()
  seq = 0
  visavis = new Visavis({ url: 'https://server', name: 'Ann', storage: null })
  await online()
})

afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
})

async function online(more: object = {}) {
  visavis.connect()
  FakeSocket.last.open()
  FakeSocket.last.says(welcome(more))
  await settle()
  sent()
}

async function says(message: object) {
  FakeSocket.last.says({ seq: ++seq, ...message })
  await settle()
}

/** What was sent since it was last asked, without its numbers. */
function sent() {
  return FakeSocket.last.take().map(({ seq: _, ...message }) => message)
}

/** A track as the page hands it to the SDK. */
const asTrack = (fake: FakeTrack) => fake as unknown as MediaStreamTrack

const call = 'n1-c'
const all = 'm=audio \nm=video \nm=application '
const offer = { type: 'offer', call, description: { type: 'offer', sdp: all } }
const answer = { type: 'answer', call, description: { type: 'answer', sdp: all } }
const calling = { type: 'calling', ref: '1', call, to: bob, ringMs: 60_000, iceServers: [] }
const ring = {
  type: 'ring',
  call,
  from: { id: 'ubo', name: 'Bob' },
  video: true,
  ringMs: 60_000,
  iceServers: [{ urls: ['stun:call'] }],
}
const media = (connection: string, audio: boolean, video: boolean) => ({
  type: 'media',
  call,
  connection,
  audio,
  video,
})

/** A call that Bob has taken and that is connected. */
async function talking(): Promise<Call> {
  const outgoing = visavis.ring('ubo')
  await says(calling)
  await says({ type: 'ringing', call })
  await says({ type: 'accept', call })
  await says(answer)
  FakePeerConnection.last.becomes('connected')
  sent()
  return outgoing
}

async function rung(more: object = {}): Promise<Call> {
  await says({ ...ring, ...more })
  const incoming = visavis.call
  if (!incoming) throw new Error('it does not ring')
  return incoming
}

function states(of: Call): string[] {
  const seen: string[] = []
  of.on('state', (change) => seen.push(change.reason?.reason ?? change.new))
  return seen
}

const live = () => devices.tracks.filter(({ readyState }) => readyState === 'live')

test('out: ring to connected', async () => {
  const outgoing = visavis.ring('ubo')
  const seen = states(outgoing)
  expect(outgoing).toMatchObject({ state: 'calling', id: undefined, direction: 'out', video: true })
  expect(outgoing.peer).toEqual({ id: 'ubo', name: 'Bob' })
  expect(visavis.call).toBe(outgoing)
  expect(sent()).toEqual([{ type: 'ring', ref: '1', to: 'ubo', video: true, early: true }])
  await settle()
  expect(outgoing.local.getTracks()).toHaveLength(2)
  expect(sent()).toEqual([])

  await says(calling)
  expect(outgoing.id).toBe(call)
  expect(outgoing.ringsUntil).toBe(performance.now() + 60_000)
  expect(sent()).toEqual([offer])
  expect(FakePeerConnection.last.configuration.iceServers).toEqual([{ urls: ['stun:welcome'] }])
  FakePeerConnection.last.gathers('one')
  await vi.advanceTimersByTimeAsync(20)
  expect(sent()).toEqual([{ type: 'candidate', call, candidates: [{ candidate: 'one' }] }])

  await says({ type: 'ringing', call })
  await says({ type: 'accept', call })
  expect(outgoing.acceptedAt).toBe(performance.now())
  expect(sent()).toEqual([media('connecting', true, true)])
  await says(answer)
  FakePeerConnection.last.becomes('connecting')
  FakePeerConnection.last.becomes('connected')
  expect(sent()).toEqual([media('connected', true, true)])
  expect(seen).toEqual(['ringing', 'connecting', 'connected'])
  expect(FakePeerConnection.all).toHaveLength(1)
})

test('in: nothing happens before the person accepts', async () => {
  const rings: Call[] = []
  visavis.on('ring', (incoming) => rings.push(incoming))
  const incoming = await rung()
  expect(rings).toEqual([incoming])
  expect(sent()).toEqual([{ type: 'ringing', call }])
  expect(incoming).toMatchObject({ state: 'ringing', direction: 'in', video: true })
  await says(offer)
  await says({ type: 'candidate', call, candidates: [{ candidate: 'one' }] })
  await says({ type: 'accept', call })
  await incoming.setVideo(true)
  expect(incoming.state).toBe('ringing')
  expect(FakePeerConnection.all).toEqual([])
  expect(devices.asked).toEqual([])
})

test('in: accept to connected', async () => {
  const incoming = await rung()
  const seen = states(incoming)
  sent()
  incoming.accept()
  expect(sent()).toEqual([{ type: 'accept', call }])
  expect(incoming.state).toBe('connecting')
  const connection = FakePeerConnection.last
  expect(connection.configuration.iceServers).toEqual([{ urls: ['stun:call'] }])
  await settle()
  await says({ type: 'accept', call })
  await says(offer)
  await says({ type: 'candidate', call, candidates: [{ candidate: 'one' }] })
  expect(sent()).toEqual([media('connecting', true, true), answer])
  expect(connection.candidates).toEqual(['one'])
  expect(connection.transceivers.map(({ sender }) => sender.track?.kind)).toEqual([
    'audio',
    'video',
  ])
  expect(incoming.remote.getTracks()).toHaveLength(2)
  connection.becomes('connected')
  expect(sent()).toEqual([media('connected', true, true)])
  expect(seen).toEqual(['connecting', 'connected'])
})

test('in: a preview becomes the camera of the call, which opens no other', async () => {
  const incoming = await rung()
  const preview = new FakeTrack('video')
  incoming.accept({ tracks: [asTrack(preview)] })
  await settle()
  await says({ type: 'accept', call })
  await says(offer)
  expect(devices.asked).toEqual(['audio'])
  expect(FakePeerConnection.last.transceivers[1]?.sender.track).toBe(preview)
  expect(preview.readyState).toBe('live')
  incoming.hangup()
  expect(preview.readyState).toBe('ended')
})

test('in: a preview that is not wanted any longer is stopped', async () => {
  const incoming = await rung()
  const [unseen, late] = [new FakeTrack('video'), new FakeTrack('video')]
  incoming.accept({ video: false, tracks: [asTrack(unseen)] })
  incoming.accept({ tracks: [asTrack(late)] })
  await settle()
  expect([unseen.readyState, late.readyState]).toEqual(['ended', 'ended'])
  expect(devices.asked).toEqual(['audio'])
})

test('in: the page hears of the accept before anything is opened', async () => {
  const incoming = await rung()
  sent()
  const seen: unknown[] = []
  incoming.on('state', ({ new: state }) => {
    seen.push(state, sent(), incoming.local.getTracks())
  })
  incoming.accept({ tracks: [asTrack(new FakeTrack('video'))] })
  expect(seen).toEqual(['connecting', [{ type: 'accept', call }], []])
  expect(incoming.local.getTracks()).toHaveLength(1)
})

test('in: a page that hangs up as it hears of the accept captures nothing', async () => {
  const incoming = await rung()
  incoming.on('state', () => incoming.hangup())
  const preview = new FakeTrack('video')
  incoming.accept({ tracks: [asTrack(preview)] })
  await settle()
  expect([incoming.end?.reason, preview.readyState]).toEqual(['hungup', 'ended'])
  expect(devices.asked).toEqual([])
  expect(FakePeerConnection.all.map(({ connectionState }) => connectionState)).toEqual(['closed'])
})

test('in: the answer does not wait for the devices', async () => {
  let open = () => {}
  const asked = devices.getUserMedia.bind(devices)
  devices.getUserMedia = async (wanted) => {
    await new Promise<void>((resolve) => {
      open = resolve
    })
    return asked(wanted)
  }
  const incoming = await rung()
  incoming.accept()
  await says({ type: 'accept', call })
  await says(offer)
  expect(sent()).toContainEqual(answer)
  open()
  await settle()
  expect(incoming).toMatchObject({ micOn: true, cameraOn: true })
  expect(FakePeerConnection.last.transceivers[1]?.sender.track?.kind).toBe('video')
  expect(sent()).toEqual([media('connecting', true, true)])
})

test('in: a video call taken without camera', async () => {
  const incoming = await rung()
  incoming.accept({ video: false })
  await settle()
  expect(devices.asked).toEqual(['audio'])
  expect(incoming).toMatchObject({ micOn: true, cameraOn: false })
})

test('in: decline', async () => {
  const incoming = await rung()
  sent()
  incoming.decline()
  expect(sent()).toEqual([{ type: 'decline', call }])
  expect(incoming.end).toMatchObject({ reason: 'declined', by: 'me', durationMs: 0 })
  expect(visavis.call).toBeUndefined()
})

test.each(['accepted', 'declined'])('in: %s elsewhere', async (act) => {
  const incoming = await rung()
  await says({ type: 'elsewhere', call, act })
  expect(incoming.end).toMatchObject({ reason: `elsewhere-${act}` })
})

test('in: an accept that the server refuses ends here', async () => {
  const incoming = await rung()
  incoming.accept()
  await says({ type: 'error', call, code: 'in_call', message: 'no' })
  expect(incoming.end).toMatchObject({ reason: 'error', error: { code: 'in_call' } })
  expect(live()).toEqual([])
})

test('I cannot ring while I am in a call', async () => {
  const outgoing = await talking()
  const second = visavis.ring('ucy')
  expect(second.state).toBe('calling')
  await settle()
  expect(second.end).toMatchObject({ reason: 'error', error: { code: 'in_call' } })
  expect(visavis.call).toBe(outgoing)
})

test('hanging up stops everything within 100 ms', async () => {
  const outgoing = await talking()
  const connection = FakePeerConnection.last
  const [channel] = connection.channels
  if (channel) channel.readyState = 'open'
  await vi.advanceTimersByTimeAsync(5000)
  outgoing.hangup()
  outgoing.hangup()
  expect(live()).toEqual([])
  expect(sent()).toEqual([{ type: 'hangup', call }])
  expect(channel?.sent).toEqual(['{"hangup":"n1-c"}'])
  expect(outgoing.end).toMatchObject({ reason: 'hungup', by: 'me', durationMs: 5000 })
  expect(visavis.call).toBeUndefined()
  await vi.advanceTimersByTimeAsync(100)
  expect(connection.connectionState).toBe('closed')
  await says({ type: 'ended', call, reason: 'hungup', by: 'uan', durationMs: 5010 })
  expect(outgoing.end?.durationMs).toBe(5000)
})

test('the other party hangs up on the data channel', async () => {
  const outgoing = await talking()
  const [channel] = FakePeerConnection.last.channels
  channel?.onmessage?.({ data: '{"hangup":"another"}' })
  channel?.onmessage?.({ data: '{' })
  expect(outgoing.state).toBe('connected')
  channel?.onmessage?.({ data: '{"hangup":"n1-c"}' })
  expect(outgoing.end).toMatchObject({ reason: 'hungup', by: 'peer' })
  expect(sent()).toEqual([{ type: 'hangup', call }])
})

test.each([
  ['ubo', 'peer'],
  ['uan', 'me'],
  [undefined, undefined],
])('ended by %s is by %s', async (by, who) => {
  const outgoing = await talking()
  await says({ type: 'ended', call, reason: 'hungup', by, durationMs: 7 })
  expect(outgoing.end).toMatchObject({ reason: 'hungup', by: who, durationMs: 7 })
  expect(live()).toEqual([])
})

test('cancel before the server has named the call', async () => {
  const outgoing = visavis.ring('ubo')
  await settle()
  outgoing.hangup()
  expect(outgoing.end).toMatchObject({ reason: 'canceled', by: 'me' })
  expect(live()).toEqual([])
  sent()
  await says(calling)
  expect(sent()).toEqual([{ type: 'hangup', call }])
})

test('a ring that the server refuses', async () => {
  const outgoing = visavis.ring('ubo')
  await says({ type: 'error', ref: '1', code: 'rate_limited', message: 'too many' })
  expect(outgoing.end).toMatchObject({ reason: 'error', error: { code: 'rate_limited' } })
  expect(visavis.call).toBeUndefined()
})

test('a ring with no connection', async () => {
  visavis.close()
  const outgoing = visavis.ring('ubo')
  await settle()
  expect(outgoing.end).toMatchObject({ reason: 'error', error: { code: 'offline' } })
  expect(devices.asked).toEqual([])
})

test('a hang-up while the socket is away waits for it', async () => {
  const outgoing = await talking()
  FakeSocket.last.closes(1006)
  expect(outgoing.state).toBe('connected')
  outgoing.hangup()
  await vi.advanceTimersByTimeAsync(500)
  FakeSocket.last.open()
  FakeSocket.last.take()
  FakeSocket.last.says(welcome({ resumed: true, received: 3 }))
  expect(sent()).toContainEqual({ type: 'hangup', call, agoMs: 500 })
})

test('media that stands still, and comes back', async () => {
  const outgoing = await talking()
  const seen = states(outgoing)
  for (const state of ['disconnected', 'failed', 'connecting', 'connected']) {
    FakePeerConnection.last.becomes(state)
  }
  expect(seen).toEqual(['reconnecting', 'connected'])
  expect(sent()).toEqual([media('reconnecting', true, true), media('connected', true, true)])
})

test('mute keeps the microphone, camera off stops it; neither negotiates', async () => {
  const outgoing = await talking()
  const [microphone, camera] = devices.tracks
  const [, sender] = FakePeerConnection.last.transceivers.map((each) => each.sender)
  await outgoing.setAudio(false)
  expect(microphone).toMatchObject({ enabled: false, readyState: 'live' })
  await outgoing.setAudio(true)
  expect(microphone?.enabled).toBe(true)
  await outgoing.setVideo(false)
  await settle()
  expect(camera?.readyState).toBe('ended')
  expect(sender?.track).toBeNull()
  expect(outgoing.local.getVideoTracks()).toEqual([])
  await outgoing.setVideo(true)
  await settle()
  expect(sender?.track).toBe(devices.tracks[2])
  expect(devices.asked).toEqual(['audio+video', 'video'])
  expect(sent()).toEqual([
    media('connected', false, true),
    media('connected', true, true),
    media('connected', true, false),
    media('connected', true, true),
  ])
})

test('a busy camera fails no call, and can be tried again', async () => {
  devices.problems.set('video', 'NotReadableError')
  const outgoing = await talking()
  expect(outgoing.problems).toEqual([{ kind: 'video', cause: 'busy' }])
  expect(outgoing).toMatchObject({ micOn: true, cameraOn: false })
  devices.problems.clear()
  await outgoing.setVideo(true)
  expect(outgoing.problems).toEqual([])
  expect(outgoing.cameraOn).toBe(true)
})

test('a camera turned off again while the browser still asks stays off', async () => {
  const outgoing = await talking()
  await outgoing.setVideo(false)
  const opened = outgoing.setVideo(true)
  await outgoing.setVideo(false)
  await opened
  expect(outgoing.cameraOn).toBe(false)
  expect(live().map(({ kind }) => kind)).toEqual(['audio'])
})

test('a call that ends while the browser still asks captures nothing', async () => {
  const outgoing = visavis.ring('ubo')
  outgoing.hangup()
  await settle()
  expect(live()).toEqual([])
})

test('an unplugged microphone is told', async () => {
  const outgoing = await talking()
  devices.there.delete('the audio')
  devices.tracks[0]?.onended?.()
  await settle()
  expect(outgoing.problems).toEqual([{ kind: 'audio', cause: 'missing' }])
  expect(outgoing.micOn).toBe(false)
  expect(outgoing.local.getAudioTracks()).toEqual([])
  expect(sent()).toEqual([media('connected', false, true)])
})

const turn = { urls: ['turn:relay?transport=udp'], username: 'u', credential: 'c' }

test.each<[string, (connection: FakePeerConnection) => void]>([
  ['relay_unreachable', () => undefined],
  ['relay_unreachable', (c) => c.onicecandidateerror?.({ url: 'turn:relay', errorCode: 701 })],
  ['relay_full', (c) => c.onicecandidateerror?.({ url: 'turn:relay', errorCode: 508 })],
  ['relay_full', (c) => c.onicecandidateerror?.({ url: 'turn:relay', errorCode: 486 })],
  ['relay_refused', (c) => c.onicecandidateerror?.({ url: 'turn:relay', errorCode: 401 })],
  ['no_path', (c) => c.gathers('candidate:1 1 udp 1 192.0.2.1 5000 typ relay')],
])('a call that does not connect says why: %s', async (detail, happens) => {
  const outgoing = visavis.ring('ubo')
  await says({ ...calling, iceServers: [turn] })
  await says({ type: 'accept', call })
  await says(answer)
  happens(FakePeerConnection.last)
  sent()
  await vi.advanceTimersByTimeAsync(9500)
  expect(sent()).not.toContainEqual(expect.objectContaining({ detail }))
  await vi.advanceTimersByTimeAsync(1000)
  expect(sent()).toContainEqual({ ...media('connecting', true, true), detail })
  await says({ type: 'ended', call, reason: 'failed', detail, durationMs: 30_000 })
  expect(outgoing.end).toMatchObject({ reason: 'failed', detail })
})

test('a call whose callee describes nothing says so, and no more once it connects', async () => {
  visavis.ring('ubo')
  await says(calling)
  await says({ type: 'accept', call })
  await vi.advanceTimersByTimeAsync(10_500)
  expect(sent()).toContainEqual({ ...media('connecting', true, true), detail: 'no_answer' })
  await says(answer)
  FakePeerConnection.last.becomes('connected')
  await settle()
  expect(sent()).toContainEqual(media('connected', true, true))
})

const granted = { query: async () => ({ state: 'granted' }) }

test('a headset that vanishes is replaced by what is there, and that is told here', async () => {
  Object.assign(navigator, { permissions: granted })
  const outgoing = await talking()
  const [gone] = devices.tracks
  devices.there.delete('the audio')
  gone?.onended?.()
  await settle()
  expect(outgoing.problems).toEqual([{ kind: 'audio', cause: 'replaced' }])
  expect(outgoing.micOn).toBe(true)
  expect(outgoing.local.getAudioTracks()).toEqual([devices.tracks.at(-1)])
  expect(FakePeerConnection.last.transceivers[0]?.sender.track).toBe(devices.tracks.at(-1))
  // Off for the moment in between.
  expect(sent()).toEqual([media('connected', false, true), media('connected', true, true)])
})

test('a device that the page may not open again without a question is not', async () => {
  Object.assign(navigator, { permissions: { query: async () => ({ state: 'prompt' }) } })
  const outgoing = await talking()
  const asked = devices.asked.length
  devices.tracks[0]?.onended?.()
  await settle()
  expect(devices.asked).toHaveLength(asked)
  expect(outgoing.problems).toEqual([{ kind: 'audio', cause: 'failed' }])
})

test('a microphone that the system mutes is told on both sides, and when it is back', async () => {
  const outgoing = await talking()
  const [microphone] = devices.tracks
  microphone?.onmute?.()
  await settle()
  expect(outgoing.problems).toEqual([{ kind: 'audio', cause: 'muted' }])
  expect(outgoing.micOn).toBe(true)
  expect(sent()).toEqual([media('connected', false, true)])
  microphone?.onunmute?.()
  await settle()
  expect(outgoing.problems).toEqual([])
  expect(sent()).toEqual([media('connected', true, true)])
})

/** Three seconds pass, in which media comes, and my devices have given this much at the end of each quarter. */
async function giving(given: (quarter: number) => { audio: number | undefined; video: number }) {
  for (let quarter = 1; quarter <= 12; quarter++) {
    const { audio, video } = given(quarter)
    const { last } = FakePeerConnection
    last.bytes += 1000
    last.stats = [
      { type: 'media-source', kind: 'audio', totalAudioEnergy: audio },
      { type: 'media-source', kind: 'video', frames: video },
    ]
    await vi.advanceTimersByTimeAsync(250)
  }
}

test('a camera that freezes is told on both sides within 3 s, and when it moves again', async () => {
  const outgoing = await talking()
  await giving((quarter) => ({ audio: quarter, video: 7 * quarter }))
  expect(outgoing.problems).toEqual([])
  sent()
  await giving((quarter) => ({ audio: quarter, video: 84 }))
  expect(outgoing.problems).toEqual([{ kind: 'video', cause: 'silent' }])
  expect(sent()).toEqual([media('connected', true, false)])
  await giving((quarter) => ({ audio: quarter, video: 84 + quarter }))
  expect(outgoing.problems).toEqual([])
  expect(sent()).toEqual([media('connected', true, true)])
})

test.each([
  ['gives no sound from the start', () => 0, 1],
  ['is silent between two words', (quarter: number) => (quarter > 1 ? 5 : 4), 0],
  ['is one of a browser that does not tell', () => undefined, 0],
] as const)('a microphone that %s', async (_, energy, problems) => {
  const outgoing = await talking()
  await giving((quarter) => ({ audio: energy(quarter), video: quarter }))
  await giving((quarter) => ({ audio: energy(12), video: 12 + quarter }))
  expect(outgoing.problems).toHaveLength(problems)
  // Muted it need not give any.
  await outgoing.setAudio(false)
  await giving((quarter) => ({ audio: energy(12), video: 24 + quarter }))
  expect(outgoing.problems).toEqual([])
})

test('what a plain page cannot take is not captured', async () => {
  const incoming = await rung()
  incoming.accept()
  await says({ type: 'accept', call })
  await says({ ...offer, description: { type: 'offer', sdp: 'm=audio ' } })
  expect(incoming.cameraOn).toBe(false)
  expect(live().map(({ kind }) => kind)).toEqual(['audio'])
  await incoming.setVideo(true)
  expect(live().map(({ kind }) => kind)).toEqual(['audio'])
})

test('what the other party says of its media', async () => {
  const outgoing = await talking()
  let changes = 0
  outgoing.on('media', () => changes++)
  expect(outgoing.peerMedia).toEqual({ audio: false, video: false, connection: 'connecting' })
  await says(media('reconnecting', true, false))
  expect(changes).toBe(1)
  expect(outgoing.peerMedia).toEqual({ audio: true, video: false, connection: 'reconnecting' })
})

test('an unanswered question for my devices is told, and so is theirs', async () => {
  let answer: () => void = () => undefined
  devices.answers = new Promise((resolve) => {
    answer = resolve
  })
  const incoming = await rung()
  incoming.accept()
  await says({ type: 'accept', call })
  sent()
  await vi.advanceTimersByTimeAsync(2400)
  expect(sent().filter(({ type }) => type === 'media')).toEqual([])
  await vi.advanceTimersByTimeAsync(200)
  expect(sent()).toMatchObject([{ type: 'media', audio: false, video: false, asking: 'both' }])
  answer()
  await settle()
  const told = sent().filter(({ type }) => type === 'media')
  expect(told.at(-1)).toMatchObject({ audio: true, video: true })
  expect(told.at(-1)).not.toHaveProperty('asking')

  await says({ ...media('connected', false, false), asking: 'audio' })
  expect(incoming.peerMedia).toMatchObject({ audio: false, asking: 'audio' })
  await says(media('connected', true, false))
  expect(incoming.peerMedia.asking).toBeUndefined()
})

test('a description that cannot be used ends the call and says so', async () => {
  const incoming = await rung()
  incoming.accept()
  await says({ type: 'accept', call })
  sent()
  await says({ ...offer, description: { type: 'offer', sdp: 'broken' } })
  expect(incoming.end).toMatchObject({
    reason: 'failed',
    detail: 'description',
    error: { code: 'bad_description' },
  })
  expect(sent()).toContainEqual({ type: 'hangup', call, detail: 'description' })
  // It would say that a person hung up.
  expect(beacons).toEqual([])
})

test('figures, before and with a connection', async () => {
  const incoming = await rung()
  expect((await incoming.stats()).size).toBe(0)
  incoming.accept()
  expect((await incoming.stats()).size).toBe(1)
})
