/** Tests that a call survives reloads, lost connections and restarts, and what two calls at once become. */

import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Call } from './call.ts'
import {
  beacons,
  bob,
  type FakeDevices,
  FakeLocks,
  FakePeerConnection,
  FakeSocket,
  fakeBrowser,
  fakeStorage,
  page,
  settle,
  timings,
  welcome,
} from './fakes.ts'
import { type Options, Visavis } from './visavis.ts'

let devices: FakeDevices
let pageStorage: Storage
let visavis: Visavis
/** The server's own numbers. */
let seq: number
/** The last number of ours that the server has. */
let heard: number

beforeEach(async () => {
  devices = fakeBrowser()
  vi.spyOn(Math, 'random').mockReturnValue(0.5)
  pageStorage = fakeStorage()
  await load()
})

afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
  vi.restoreAllMocks()
})

/** Loads the page, in the place of the one before; its hello is returned. */
async function load(options: Options = {}) {
  FakeLocks.held.clear()
  visavis = new Visavis({
    url: 'https://server',
    name: 'Ann',
    storage: fakeStorage(),
    pageStorage,
    ...options,
  })
  visavis.connect().catch(() => undefined)
  await settle()
  return greet()
}

/** Answers the hello of the last socket. */
async function greet(more: object = {}) {
  FakeSocket.last.open()
  const [hello] = FakeSocket.last.take()
  if (!('resumed' in more)) seq = heard = 0
  FakeSocket.last.says(welcome(more))
  await settle()
  return hello
}

/** Loses the server, and comes back to one that has forgotten everything. */
async function forgotten() {
  FakeSocket.last.closes(1006)
  await vi.advanceTimersByTimeAsync(500)
  await greet({ resume: 'r2' })
}

async function says(message: object) {
  FakeSocket.last.says({ seq: ++seq, ...message })
  await settle()
}

/** What was sent since it was last asked, without its numbers. */
function sent() {
  return FakeSocket.last.take().map(({ seq, ...message }) => {
    heard = Number(seq ?? heard)
    return message
  })
}

/** Answers a hello that takes up the session. */
const resumed = (more: object = {}) => greet({ resumed: true, received: heard, ...more })

const call = 'n1-c'
const all = 'm=audio \nm=video \nm=application '
const offer = (epoch?: number) => ({
  type: 'offer',
  call,
  ...(epoch === undefined ? {} : { epoch }),
  description: { type: 'offer', sdp: all },
})
const answer = (epoch?: number) => ({
  ...offer(epoch),
  type: 'answer',
  description: { type: 'answer', sdp: all },
})
const media = (connection: string, audio = true, video = true) => ({
  type: 'media',
  call,
  connection,
  audio,
  video,
})
const relay = [{ urls: ['stun:s', 'turn:s?transport=udp'], username: 'u', credential: 'c' }]
const calling = { type: 'calling', ref: '1', call, to: bob, ringMs: 60_000, iceServers: [] }
const from = { id: 'ubo', name: 'Bob' }
const ring = { type: 'ring', call, from, video: true, ringMs: 60_000, iceServers: relay }
const accept = { type: 'accept', call, ticket: 'ticket' }
const rejoin = {
  type: 'rejoin',
  ticket: 'ticket 2',
  call,
  peer: from,
  direction: 'out',
  video: true,
  active: true,
  elapsedMs: 61_250,
  epoch: 0,
  iceServers: [{ urls: ['stun:rejoin'] }],
}

/** A call that Bob has taken and that is connected. */
async function talking(): Promise<Call> {
  const outgoing = visavis.ring('ubo')
  await says(calling)
  await says({ type: 'ringing', call })
  await says(accept)
  await says(answer())
  FakePeerConnection.last.becomes('connected')
  await says(media('connected'))
  sent()
  return outgoing
}

/** A call of Bob's that was taken here, connected too. */
async function taken(): Promise<Call> {
  await says(ring)
  visavis.call?.accept()
  await says(accept)
  await says(offer())
  FakePeerConnection.last.becomes('connected')
  await says(media('connected'))
  sent()
  return on()
}

/** The call that is on. */
function on(): Call {
  if (!visavis.call) throw new Error('there is no call')
  return visavis.call
}

const senders = () => FakePeerConnection.last.transceivers.map(({ sender }) => sender.track)
const live = () => devices.tracks.filter(({ readyState }) => readyState === 'live')

// A page that is loaded anew.

test('the same call in a new page: offered with the next epoch, whoever rang', async () => {
  const before = await talking()
  await before.setVideo(false)
  const asked = devices.asked.length
  expect(await load()).toMatchObject({ resume: 'r1', reload: true })
  expect(sent()).toEqual([{ type: 'rejoin', ticket: 'ticket', call: 'n1-c' }])
  const events: string[] = []
  visavis.on('call', () => events.push('call'))
  visavis.on('ring', () => events.push('ring'))
  await says({ ...rejoin, direction: 'in', epoch: 2 })
  await says({ ...rejoin, direction: 'in', epoch: 2 })
  expect(events).toEqual(['call'])
  const after = on()
  expect(after).toMatchObject({ id: call, direction: 'in', state: 'reconnecting', peer: from })
  expect(after.acceptedAt).toBe(performance.now() - 61_250)
  // The camera was off.
  expect(devices.asked.slice(asked)).toEqual(['audio'])
  const said = sent()
  expect(said).toContainEqual(offer(3))
  expect(said).toContainEqual(media('reloading', true, false))
  expect(FakePeerConnection.last.configuration.iceServers).toEqual(rejoin.iceServers)
  await says(answer(3))
  FakePeerConnection.last.becomes('connected')
  expect(after.state).toBe('connected')
  expect(sent()).toEqual([media('connected', true, false)])
})

test('a new page after which the server was new, too: the other party still counts the connections', async () => {
  await talking()
  await says(offer(2))
  await load()
  await says(rejoin)
  expect(sent()).toContainEqual(offer(3))
})

test('a caller whose page is loaded anew rings on', async () => {
  visavis.ring('ubo')
  await says(calling)
  await says({ type: 'ringing', call })
  expect(await load()).toMatchObject({ resume: 'r1', reload: true })
  expect(sent()).toEqual([])
  const { ticket: _, elapsedMs: __, ...ringing } = { ...rejoin, active: false, ringMs: 41_000 }
  await says(ringing)
  expect(on()).toMatchObject({ state: 'ringing', direction: 'out', acceptedAt: undefined })
  expect(on().ringsUntil).toBe(performance.now() + 41_000)
  expect(sent()).toEqual([offer(1)])
  await says(accept)
  await says(answer(1))
  FakePeerConnection.last.becomes('connected')
  expect(on().state).toBe('connected')
})

test.each([
  ['hung up', async () => on().hangup()],
  ['ended', () => says({ type: 'ended', call, reason: 'hungup', durationMs: 1 })],
  ['of long ago', () => vi.advanceTimersByTimeAsync(0)],
])('a call that was %s is not taken up', async (how, ends) => {
  await talking()
  await ends()
  if (how === 'of long ago') vi.setSystemTime(Date.now() + timings.partyGraceMs + 1)
  await load()
  expect(sent()).toEqual([])
})

test('a call that was hung up, which the server has not heard, is hung up by the next page', async () => {
  const outgoing = await talking()
  FakeSocket.last.closes(1006)
  outgoing.hangup()
  await load()
  await says(rejoin)
  expect(visavis.call).toBeUndefined()
  expect(sent()).toEqual([{ type: 'hangup', call }])
})

test('a duplicated tab is somebody else', async () => {
  await talking()
  const copy = new Visavis({ url: 'https://server', name: 'Ann', storage: null, pageStorage })
  copy.connect()
  await settle()
  expect(await greet()).not.toHaveProperty('resume')
  expect(sent()).toEqual([])
})

test('the other party reloads: a new connection, the same camera, the same stream', async () => {
  const outgoing = await talking()
  const states: string[] = []
  outgoing.on('state', (change) => states.push(change.new))
  const old = FakePeerConnection.last
  const { remote } = outgoing
  await says(media('reloading'))
  expect(outgoing.peerMedia.connection).toBe('reloading')
  expect(states).toEqual(['reconnecting'])
  await says(offer(1))
  expect(FakePeerConnection.all).toHaveLength(2)
  expect(old.connectionState).toBe('closed')
  expect(live()).toHaveLength(2)
  expect(senders()).toEqual(devices.tracks)
  expect(sent()).toContainEqual(answer(1))
  FakePeerConnection.last.becomes('connected')
  // Said before they were connected.
  await says(media('reloading'))
  expect(states).toEqual(['reconnecting', 'connected'])
  expect(outgoing.remote).toBe(remote)
  expect(devices.asked).toHaveLength(1)
  // What is late, of the connection before.
  await says(offer())
  await says({ type: 'candidate', call, candidates: [{ candidate: 'late' }] })
  expect(FakePeerConnection.last.candidates).toEqual([])
})

test('candidates that overtake their offer are kept for it', async () => {
  await talking()
  await says({ type: 'candidate', call, epoch: 1, candidates: [{ candidate: 'one' }] })
  await says(offer(1))
  expect(FakePeerConnection.last.candidates).toEqual(['one'])
})

test.each([
  ['callee', taken, 'yields', 3],
  ['caller', talking, 'holds on', 2],
] as const)('both reload at once: the %s', async (_, begin, what, connections) => {
  await begin()
  await load()
  await says({ ...rejoin, direction: what === 'yields' ? 'in' : 'out' })
  sent()
  await says(offer(1))
  expect(FakePeerConnection.all).toHaveLength(connections)
  expect(sent()).toEqual(what === 'yields' ? [answer(1)] : [])
})

// A server that has forgotten.

test('a ticket puts a new session into the call, whose media nothing touches', async () => {
  const outgoing = await talking()
  const states: string[] = []
  outgoing.on('state', (change) => states.push(change.new))
  await forgotten()
  expect(sent()).toEqual([{ type: 'rejoin', ticket: 'ticket', call: 'n1-c' }])
  await outgoing.setAudio(false)
  FakePeerConnection.last.gathers('one')
  await vi.advanceTimersByTimeAsync(20)
  expect(sent()).toEqual([])
  await says(rejoin)
  await says(media('reconnecting'))
  expect(sent()).toEqual([
    { type: 'candidate', call, candidates: [{ candidate: 'one' }] },
    media('connected', false, true),
  ])
  expect(states).toEqual([])
  expect(FakePeerConnection.all).toHaveLength(1)
  expect(FakePeerConnection.last.restarts).toBe(0)
  // The next time it is the new one.
  await forgotten()
  expect(sent()).toEqual([{ type: 'rejoin', ticket: 'ticket 2', call: 'n1-c' }])
})

test('what was described while the server went is described again', async () => {
  visavis.ring('ubo')
  await says(calling)
  await says(accept)
  await forgotten()
  sent()
  await says(rejoin)
  expect(sent()).toContainEqual(offer())
  await says(answer())
  FakePeerConnection.last.becomes('connected')
  expect(on().state).toBe('connected')
})

test('the other party and the server both gone: over after a minute, with nothing captured', async () => {
  const outgoing = await talking()
  FakePeerConnection.last.becomes('disconnected')
  FakeSocket.last.closes(1006)
  await vi.advanceTimersByTimeAsync(58_000)
  expect(outgoing.state).toBe('reconnecting')
  await vi.advanceTimersByTimeAsync(3000)
  expect(outgoing.end).toMatchObject({ reason: 'lost', by: undefined })
  expect(live()).toEqual([])
})

test('the server alone is gone for long: a call with media goes on', async () => {
  const outgoing = await talking()
  FakeSocket.last.closes(1006)
  for (let i = 0; i < 400; i++) {
    FakePeerConnection.last.bytes += 1000
    await vi.advanceTimersByTimeAsync(250)
  }
  expect(outgoing.state).toBe('connected')
})

test('a call that is lost, of one who closed the page', async () => {
  const outgoing = await talking()
  await says({ type: 'media', call, connection: 'reloading', audio: true, video: true })
  await says({ type: 'ended', call, reason: 'lost', durationMs: 5010 })
  expect(outgoing.end).toMatchObject({ reason: 'lost', by: 'peer' })
})

test.each([
  ['bad_ticket', call],
  ['unknown_call', call],
])('a ticket that is refused: %s', async (code, of) => {
  const outgoing = await talking()
  await forgotten()
  await says({ type: 'error', code, ...(of === undefined ? {} : { call: of }), message: 'no' })
  expect(outgoing.end).toMatchObject({ reason: 'lost' })
  expect(live()).toEqual([])
})

test('a ticket that the server cannot judge yet is shown again, and the call goes on', async () => {
  const outgoing = await talking()
  await forgotten()
  expect(sent()).toEqual([{ type: 'rejoin', ticket: 'ticket', call }])
  await says({ type: 'error', code: 'unavailable', call, message: 'ask again' })
  expect(outgoing.end).toBeUndefined()
  expect(sent()).toEqual([])
  await vi.advanceTimersByTimeAsync(2000)
  expect(sent()).toEqual([{ type: 'rejoin', ticket: 'ticket', call }])
  await says({ type: 'error', code: 'unavailable', call, message: 'ask again' })
  await vi.advanceTimersByTimeAsync(2000)
  expect(sent()).toEqual([{ type: 'rejoin', ticket: 'ticket', call }])
  await says(rejoin)
  expect(on()).toBe(outgoing)
  outgoing.hangup()
  sent()
  await says({ type: 'error', code: 'unavailable', call, message: 'late' })
  await vi.advanceTimersByTimeAsync(2000)
  expect(sent()).toEqual([])
})

test('a ticket of a page before is shown again until nobody can wait for it any more', async () => {
  await taken()
  await load()
  expect(sent()).toEqual([{ type: 'rejoin', ticket: 'ticket', call }])
  for (let waited = 0; waited < 60_000; waited += 2000) {
    await says({ type: 'error', code: 'unavailable', call, message: 'ask again' })
    await vi.advanceTimersByTimeAsync(2000)
  }
  sent()
  await says({ type: 'error', code: 'unavailable', call, message: 'ask again' })
  await vi.advanceTimersByTimeAsync(2000)
  expect(sent()).toEqual([])
})

test('no device opens for a call that this page was not in, whatever the server says', async () => {
  for (const active of [true, false]) {
    await says({ ...rejoin, active, ringMs: 60_000 })
    expect(visavis.call).toBeUndefined()
    expect(devices.asked).toEqual([])
    expect(sent()).toEqual([{ type: 'hangup', call }])
  }
})

test('no device opens for a call that this page left long ago', async () => {
  await taken()
  devices.asked.length = 0
  vi.setSystemTime(Date.now() + timings.partyGraceMs + 1)
  await load()
  expect(sent()).toEqual([])
  await says(rejoin)
  expect(visavis.call).toBeUndefined()
  expect(devices.asked).toEqual([])
})

test('no device opens for a call that has ended, though it is told as one that goes on', async () => {
  const outgoing = await talking()
  await says({ type: 'ended', call, reason: 'hungup', by: 'ubo', durationMs: 1 })
  expect(outgoing.state).toBe('ended')
  devices.asked.length = 0
  sent()
  for (const message of [
    rejoin,
    accept,
    { type: 'merged', ref: '1', call, ticket: 't' },
    offer(),
  ]) {
    await says(message)
  }
  expect(visavis.call).toBeUndefined()
  expect(devices.asked).toEqual([])
  expect(live()).toEqual([])
})

test('a caller whose ring reaches nobody is told within ten seconds, and a late call is hung up', async () => {
  const outgoing = visavis.ring('ubo')
  sent()
  await vi.advanceTimersByTimeAsync(8900)
  expect(outgoing.end).toBeUndefined()
  await vi.advanceTimersByTimeAsync(200)
  expect(outgoing.end).toMatchObject({ reason: 'error', error: { code: 'offline' } })
  expect(live()).toEqual([])
  if (FakeSocket.all.length > 1) await resumed()
  sent()
  await says(calling)
  expect(sent()).toContainEqual({ type: 'hangup', call })
})

test('a third ring waits for its turn, and one that is over does not ring', async () => {
  const rings: string[] = []
  visavis.on('ring', ({ id }) => rings.push(id ?? ''))
  for (const [id, user] of [
    ['n1-1', 'ubo'],
    ['n1-2', 'ucy'],
    ['n1-3', 'udi'],
    ['n1-4', 'ufa'],
  ]) {
    await says({ ...ring, call: id, from: { id: user, name: user } })
  }
  expect(rings).toEqual(['n1-1', 'n1-2'])
  await says({ type: 'ended', call: 'n1-3', reason: 'canceled', durationMs: 0 })
  sent()
  on().decline()
  await says({ type: 'ended', call: 'n1-1', reason: 'declined', durationMs: 0 })
  expect(rings).toEqual(['n1-1', 'n1-2', 'n1-4'])
  expect(sent()).toContainEqual({ type: 'ringing', call: 'n1-4' })
})

test('without a ticket the call cannot go on', async () => {
  await says(ring)
  const incoming = on()
  await forgotten()
  expect(incoming.end).toMatchObject({ reason: 'error', error: { code: 'offline' } })
})

test('a hang-up while the server is away reaches it after its ticket', async () => {
  const outgoing = await talking()
  FakeSocket.last.closes(1006)
  outgoing.hangup()
  await vi.advanceTimersByTimeAsync(500)
  await greet({ resume: 'r2' })
  expect(sent()).toEqual([{ type: 'rejoin', ticket: 'ticket', call: 'n1-c' }])
  await says(rejoin)
  expect(visavis.call).toBeUndefined()
  expect(sent()).toEqual([{ type: 'hangup', call, agoMs: 500 }])
  const recorded: string[] = []
  visavis.on('callrecorded', (id) => recorded.push(id))
  expect(recorded).toEqual([])
  await says({ type: 'ended', call, reason: 'hungup', by: 'uan', durationMs: 1 })
  expect(recorded).toEqual([call])
  await forgotten()
  expect(sent()).toEqual([])
})

test('a page that took a call has its ticket too, when server and page go at once', async () => {
  await taken()
  await load()
  expect(sent()).toEqual([{ type: 'rejoin', ticket: 'ticket', call: 'n1-c' }])
})

test('a hang-up is said by beacon, too, and once more by a page that goes before the server knows', async () => {
  const outgoing = await talking()
  page.dispatchEvent(new Event('pagehide'))
  expect(beacons).toEqual([])
  outgoing.hangup()
  const beacon = ['https://server/v1/hangup', { resume: 'r1', call }]
  expect(beacons).toEqual([beacon])
  page.dispatchEvent(new Event('pagehide'))
  expect(beacons).toEqual([beacon, beacon])
  await says({ type: 'ended', call, reason: 'hungup', by: 'uan', durationMs: 1 })
  page.dispatchEvent(new Event('pagehide'))
  expect(beacons).toHaveLength(2)
})

test('a connection that was refused ends the call', async () => {
  const outgoing = await talking()
  FakeSocket.last.closes(4503)
  expect(outgoing.end).toMatchObject({ reason: 'error', error: { code: 'wrong_session' } })
})

// Media that stands still.

test('no bytes: shown and restarted after a second, and told truthfully', async () => {
  const outgoing = await talking()
  const connection = FakePeerConnection.last
  const flow = async (ms: number, bytes: number) => {
    for (let i = 0; i < ms; i += 250) {
      connection.bytes += bytes
      await vi.advanceTimersByTimeAsync(250)
    }
  }
  // Past what was agreed on at the beginning.
  await flow(5000, 1000)
  expect(outgoing.state).toBe('connected')
  await flow(1250, 0)
  expect(outgoing.state).toBe('reconnecting')
  // The socket may be dead too.
  expect(FakeSocket.all).toHaveLength(2)
  expect(connection.restarts).toBe(0)
  await resumed()
  expect(connection.restarts).toBe(1)
  expect(sent()).toEqual([media('reconnecting'), offer()])
  await flow(750, 0)
  expect(sent()).toEqual([])
  // No answer: offered again.
  await flow(250, 0)
  expect(sent()).toEqual([offer()])
  await says(answer())
  await flow(1500, 0)
  expect(sent()).toEqual([])
  await flow(250, 1000)
  expect(outgoing.state).toBe('connected')
  expect(sent()).toEqual([media('connected')])
})

test('one who is muted and shows nothing is not missed', async () => {
  const outgoing = await talking()
  await says(media('connected', false, false))
  await vi.advanceTimersByTimeAsync(20_000)
  expect(outgoing.state).toBe('connected')
})

test('a restart that is due while the socket is away is made when it is back', async () => {
  await talking()
  await says(media('connected', false, false))
  const connection = FakePeerConnection.last
  FakeSocket.last.closes(1006)
  connection.becomes('failed')
  await vi.advanceTimersByTimeAsync(499)
  expect(connection.restarts).toBe(0)
  await vi.advanceTimersByTimeAsync(1)
  const servers = [{ urls: ['turn:fresh'] }]
  await resumed({ iceServers: servers })
  expect(connection.restarts).toBe(1)
  expect(connection.configuration.iceServers).toEqual(servers)
  expect(sent()).toContainEqual(offer())
})

test('a restart uses the credentials that came last', async () => {
  await talking()
  const connection = FakePeerConnection.last
  const fresh = [{ urls: ['turn:relay'], username: 'later', credential: 'x' }]
  await says({ type: 'refresh', call, iceServers: fresh })
  expect(connection.restarts).toBe(0)
  page.dispatchEvent(new Event('online'))
  await resumed()
  expect(connection.restarts).toBe(1)
  expect(connection.configuration.iceServers).toEqual(fresh)
})

test('of two relays one is used, and both when that may have failed', async () => {
  const stun = { urls: ['stun:one', 'stun:other'] }
  const one = { urls: ['turn:one'] }
  const other = { urls: ['turn:other'] }
  await talking()
  const connection = FakePeerConnection.last
  const used = () => connection.configuration.iceServers
  page.dispatchEvent(new Event('online'))
  await resumed({ iceServers: [stun, one, other] })
  expect(used()).toEqual([stun, one])
  await says(answer())
  await says(media('connected', false, false))
  await vi.advanceTimersByTimeAsync(10_000)
  connection.becomes('failed')
  await vi.advanceTimersByTimeAsync(50)
  expect(used()).toEqual([stun, one, other])
})

test('another network: restarted at once, and hello said again', async () => {
  await talking()
  page.dispatchEvent(new Event('online'))
  expect(FakeSocket.all).toHaveLength(2)
  await resumed()
  expect(FakePeerConnection.last.restarts).toBe(1)
  expect(on().state).toBe('connected')
})

test('another network while there is none: restarted once, when the server is reached by it', async () => {
  await talking()
  const connection = FakePeerConnection.last
  page.dispatchEvent(new Event('online'))
  FakeSocket.last.closes(1006)
  await vi.advanceTimersByTimeAsync(200)
  page.dispatchEvent(new Event('online'))
  await vi.advanceTimersByTimeAsync(500)
  expect(connection.restarts).toBe(0)
  connection.bytes += 1000
  await resumed()
  expect(connection.restarts).toBe(1)
  await says(answer())
  await vi.advanceTimersByTimeAsync(1900)
  expect(connection.restarts).toBe(1)
})

const namedOffer = {
  ...offer(),
  description: { type: 'offer', sdp: `a=visavis-offer:1\n${all}` },
}

test('a restart that brings nothing: a new connection, which is restarted, too', async () => {
  const outgoing = await talking()
  const before = FakePeerConnection.last
  await says(namedOffer)
  sent()
  // What was agreed on before is given its time first.
  for (let i = 0; i < 12; i++) {
    before.bytes += 1000
    await vi.advanceTimersByTimeAsync(250)
  }
  await vi.advanceTimersByTimeAsync(1250)
  await resumed()
  expect(before.restarts).toBe(1)
  await says(answer())
  sent()
  // A second after that, and 2 s after something came last.
  await vi.advanceTimersByTimeAsync(900)
  expect(FakePeerConnection.all).toHaveLength(1)
  await vi.advanceTimersByTimeAsync(300)
  expect(before.connectionState).toBe('closed')
  const after = FakePeerConnection.last
  expect(after).not.toBe(before)
  expect(sent()).toEqual([offer(1)])
  expect(senders()).toEqual(devices.tracks)
  expect(outgoing.state).toBe('reconnecting')
  // It is given its time, and offered again when that has no answer.
  await vi.advanceTimersByTimeAsync(2600)
  expect(after.restarts).toBe(0)
  await vi.advanceTimersByTimeAsync(400)
  expect(after.restarts).toBe(1)
  await resumed()
  await says(answer(1))
  await vi.advanceTimersByTimeAsync(2999)
  expect(FakePeerConnection.last).toBe(after)
  expect(after.restarts).toBe(1)
  after.becomes('connected')
  expect(outgoing.state).toBe('connected')
  await vi.advanceTimersByTimeAsync(900)
  expect(after.restarts).toBe(1)
  expect(devices.asked).toHaveLength(1)
})

test('one who does not name what they answer has one connection for all', async () => {
  await talking()
  const connection = FakePeerConnection.last
  await vi.advanceTimersByTimeAsync(1250)
  await resumed()
  await vi.advanceTimersByTimeAsync(4000)
  await says(answer())
  await vi.advanceTimersByTimeAsync(5000)
  expect(connection.restarts).toBeGreaterThan(2)
  expect(FakePeerConnection.all).toHaveLength(1)
})

test('who sees again what we send gets a whole picture', async () => {
  await talking()
  const whole = () => FakePeerConnection.last.transceivers[1]?.sender.whole
  await says(media('reconnecting'))
  await vi.advanceTimersByTimeAsync(50)
  expect(whole()).toBe(0)
  await says(media('connected'))
  await says(media('connected'))
  await vi.advanceTimersByTimeAsync(50)
  expect(whole()).toBe(1)
})

test('credentials are made fresh before they expire', async () => {
  await talking()
  await says(media('connected', false, false))
  for (let i = 0; i < 64; i++) {
    await vi.advanceTimersByTimeAsync(25_000)
    FakeSocket.last.says({ type: 'ping', ack: 99 })
    await settle()
  }
  const asked = sent().filter(({ type }) => type === 'rejoin')
  expect(asked).toEqual([{ type: 'rejoin', ticket: 'ticket', call: 'n1-c' }])
  await says(rejoin)
  expect(FakePeerConnection.all).toHaveLength(1)
})

// Connected before answered.

test('the caller connects with nothing sent, and looks for a direct path at accept', async () => {
  const outgoing = visavis.ring('ubo')
  const connection = FakePeerConnection.last
  // The welcome has no relay; the call has, and nothing is gathered before it is known.
  expect(connection.configuration.iceTransportPolicy).toBe('all')
  expect(connection.localDescription).toBeNull()
  await says({ ...calling, iceServers: relay })
  expect(connection.configuration.iceTransportPolicy).toBe('all')
  await says({ type: 'ringing', call })
  await says(answer())
  connection.becomes('connected')
  expect(outgoing.state).toBe('ringing')
  expect(live()).toHaveLength(2)
  expect(senders()).toEqual([null, null])
  sent()
  await says({ ...accept, early: true })
  expect(senders().map((track) => track?.kind)).toEqual(['audio', 'video'])
  expect(outgoing.state).toBe('connected')
  expect(connection.configuration.iceTransportPolicy).toBe('all')
  expect(sent()).toEqual([media('connected')])
  // The first picture has come by then.
  await vi.advanceTimersByTimeAsync(500)
  expect(connection.restarts).toBe(1)
  expect(sent()).toEqual([offer()])
  expect(FakePeerConnection.last).toBe(connection)
})

test('one who has not connected early gets every candidate in the first offer, and no restart', async () => {
  visavis.ring('ubo')
  const connection = FakePeerConnection.last
  await says({ ...calling, iceServers: relay })
  expect(connection.configuration.iceTransportPolicy).toBe('all')
  await says(accept)
  await says(answer())
  connection.becomes('connected')
  await vi.advanceTimersByTimeAsync(5000)
  expect(connection.configuration.iceTransportPolicy).toBe('all')
  expect(connection.restarts).toBe(0)
  expect(FakePeerConnection.last).toBe(connection)
})

async function greetWithRelay(options: Options = {}) {
  pageStorage.clear()
  await load({ ...options })
  FakeSocket.last.closes(1006)
  await vi.advanceTimersByTimeAsync(500)
  await greet({ iceServers: relay })
  sent()
}

test('another device accepts than the one that was connected: a new connection', async () => {
  await greetWithRelay()
  visavis.ring('ubo')
  await says({ ...calling, iceServers: relay })
  await says(answer())
  FakePeerConnection.last.becomes('connected')
  sent()
  await says(accept)
  expect(FakePeerConnection.all.at(-2)?.connectionState).toBe('closed')
  expect(FakePeerConnection.last.configuration.iceTransportPolicy).toBe('all')
  expect(sent()).toContainEqual(offer(1))
  expect(senders().map((track) => track?.kind)).toEqual(['audio', 'video'])
})

test('the callee connects while it rings: no camera, no track, the relay only', async () => {
  await says({ ...ring, early: true })
  expect(sent()).toEqual([{ type: 'ringing', call, early: true }])
  const incoming = on()
  const connection = FakePeerConnection.last
  expect(connection.configuration.iceTransportPolicy).toBe('relay')
  await says(offer())
  expect(sent()).toEqual([answer()])
  connection.becomes('connected')
  await incoming.setVideo(true)
  expect(incoming.state).toBe('ringing')
  expect(devices.asked).toEqual([])
  expect(senders()).toEqual([null, null])
  incoming.accept()
  await settle()
  expect(connection.configuration.iceTransportPolicy).toBe('all')
  expect(senders().map((track) => track?.kind)).toEqual(['audio', 'video'])
  expect(incoming.state).toBe('connecting')
  await says({ ...accept, early: true })
  expect(incoming.state).toBe('connected')
  // The caller restarts, not the callee.
  expect(connection.restarts).toBe(0)
  expect(FakePeerConnection.all).toHaveLength(1)
})

test('a device that came second with its answer connects when it has accepted', async () => {
  await says({ ...ring, early: true })
  await says(offer())
  await says({ type: 'error', call, code: 'wrong_state', message: 'no' })
  const incoming = on()
  expect(incoming.state).toBe('ringing')
  expect(FakePeerConnection.last.connectionState).toBe('closed')
  incoming.accept()
  await says(accept)
  await says(offer(1))
  expect(sent()).toContainEqual(answer(1))
  FakePeerConnection.last.becomes('connected')
  expect(incoming.state).toBe('connected')
})

test.each<[string, object, Options, string]>([
  ['the server does not let us', {}, {}, 'visible'],
  ['it is switched off', { early: true }, { early: false }, 'visible'],
  ['nobody sees the page', { early: true }, {}, 'hidden'],
  ['there is no relay', { early: true, iceServers: [{ urls: 'stun:s' }] }, {}, 'visible'],
])('nothing is early: %s', async (_, more, options, visibilityState) => {
  await load(options)
  vi.stubGlobal('document', Object.assign(new EventTarget(), { visibilityState }))
  sent()
  const { iceServers, ...rest } = { ...ring, ...more }
  await says({
    ...rest,
    iceServers: [iceServers].flat().map((each) => ({ ...each, urls: [each.urls].flat() })),
  })
  expect(sent()).toEqual([{ type: 'ringing', call }])
  expect(FakePeerConnection.all).toEqual([])
})

test('always over the relay: nothing changes at accept', async () => {
  await greetWithRelay({ iceTransportPolicy: 'relay' })
  visavis.ring('ubo')
  await says({ ...calling, iceServers: relay })
  await says(answer())
  await says({ ...accept, early: true })
  expect(FakePeerConnection.last.configuration.iceTransportPolicy).toBe('relay')
  expect(FakePeerConnection.last.restarts).toBe(0)
})

test('a stranger learns no address of mine, after a reload and a restart of the server neither', async () => {
  await says({ ...ring, iceServers: relay, stranger: true })
  sent()
  on().accept()
  await settle()
  expect(sent()).toContainEqual({ type: 'accept', call, relayOnly: true })
  expect(FakePeerConnection.last.configuration.iceTransportPolicy).toBe('relay')
  await says(accept)
  await load()
  expect(sent()).toEqual([{ type: 'rejoin', ticket: 'ticket', call, relayOnly: true }])
  await says({ ...rejoin, direction: 'in' })
  expect(FakePeerConnection.last.configuration.iceTransportPolicy).toBe('relay')
})

test.each<[string, object, boolean]>([
  ['I know the caller', { iceServers: relay }, true],
  ['I want it so', { iceServers: relay, stranger: true }, false],
  ['there is no relay', { iceServers: [{ urls: ['stun:s'] }], stranger: true }, true],
])('a call that is direct: %s', async (_, more, relayStrangers) => {
  visavis.relayStrangers = relayStrangers
  await says({ ...ring, ...more })
  sent()
  on().accept()
  await settle()
  expect(sent()).toContainEqual({ type: 'accept', call })
  expect(FakePeerConnection.last.configuration.iceTransportPolicy).toBe('all')
})

// Two calls at once.

test('both ring: the ring that crosses mine never shows, and mine becomes its other end', async () => {
  const rings: Call[] = []
  visavis.on('ring', (incoming) => rings.push(incoming))
  const outgoing = visavis.ring('ubo')
  await settle()
  sent()
  await says(ring)
  expect(sent()).toEqual([])
  await says({ type: 'merged', ref: '1', call, ticket: 'ticket' })
  expect(outgoing).toMatchObject({ id: call, direction: 'out', state: 'connecting' })
  expect(visavis.call).toBe(outgoing)
  expect(FakePeerConnection.last.configuration.iceServers).toEqual(relay)
  await says(offer())
  expect(sent()).toEqual([media('connecting'), answer()])
  expect(senders()).toEqual(devices.tracks)
  FakePeerConnection.last.becomes('connected')
  expect(outgoing.state).toBe('connected')
  expect(rings).toEqual([])
  expect(devices.asked).toEqual(['audio+video'])
})

test('both ring, and mine comes to nothing: theirs rings', async () => {
  visavis.ring('ubo')
  await says(ring)
  await vi.advanceTimersByTimeAsync(1000)
  await says({ type: 'error', ref: '1', code: 'rate_limited', message: 'no' })
  expect(on()).toMatchObject({ direction: 'in', state: 'ringing', id: call })
  expect(on().ringsUntil).toBe(performance.now() + 59_000)
})

test('both ring, and theirs ends first', async () => {
  visavis.ring('ubo')
  await says(ring)
  await says({ type: 'ended', call, reason: 'canceled', durationMs: 0 })
  await says({ type: 'error', ref: '1', code: 'rate_limited', message: 'no' })
  expect(visavis.call).toBeUndefined()
})

test('a merged call that was canceled here is hung up', async () => {
  const outgoing = visavis.ring('ubo')
  outgoing.hangup()
  sent()
  await says({ type: 'merged', ref: '1', call, ticket: 'ticket' })
  expect(sent()).toEqual([{ type: 'hangup', call }])
})

test('ringing who is ringing me takes their call', async () => {
  await says(ring)
  const incoming = on()
  sent()
  expect(visavis.ring('ubo', { video: false })).toBe(incoming)
  expect(incoming.state).toBe('connecting')
  expect(sent()).toEqual([{ type: 'accept', call }])
})

test('they ring again from a new page: the same call for me', async () => {
  const incoming = await taken()
  const ended: unknown[] = []
  incoming.on('state', (change) => change.new === 'ended' && ended.push(change))
  await says({ type: 'ended', call, reason: 'migrated', by: 'ubo', next: 'n1-d', durationMs: 7000 })
  await says({ ...rejoin, call: 'n1-d', direction: 'in', elapsedMs: 0, epoch: 0 })
  expect(incoming).toMatchObject({ id: 'n1-d', state: 'reconnecting' })
  expect(visavis.call).toBe(incoming)
  await says({ ...offer(), call: 'n1-d' })
  expect(sent()).toContainEqual({ ...answer(), call: 'n1-d' })
  FakePeerConnection.last.becomes('connected')
  expect(incoming.state).toBe('connected')
  expect(incoming.acceptedAt).toBe(performance.now())
  expect(devices.asked).toHaveLength(1)
  expect(ended).toEqual([])
})

test('migrated, and nothing follows', async () => {
  const incoming = await taken()
  await says({ type: 'ended', call, reason: 'migrated', by: 'ubo', next: 'n1-d', durationMs: 7000 })
  await vi.advanceTimersByTimeAsync(timings.reloadMs)
  expect(incoming.end).toMatchObject({ reason: 'migrated', durationMs: 7000 })
})

const second = { ...ring, call: 'n1-d', from: { id: 'ucy', name: 'Cy' }, waiting: true }

test('a second ring waits; taking it ends the first and keeps the devices', async () => {
  const first = await talking()
  const rings: Call[] = []
  visavis.on('ring', (incoming) => rings.push(incoming))
  await says(second)
  await says({ ...second, call: 'n1-e' })
  const [waiting] = rings
  expect(rings).toHaveLength(1)
  expect(waiting).toMatchObject({ waiting: true, state: 'ringing' })
  expect(visavis.call).toBe(first)
  expect(sent()).toEqual([{ type: 'ringing', call: 'n1-d' }])
  waiting?.accept()
  await settle()
  expect(sent()).toEqual([
    { type: 'accept', call: 'n1-d' },
    { type: 'hangup', call },
    { type: 'ringing', call: 'n1-e' },
  ])
  expect(rings.map(({ id }) => id)).toEqual(['n1-d', 'n1-e'])
  expect(first.end).toMatchObject({ reason: 'hungup', by: 'me' })
  expect(visavis.call).toBe(waiting)
  expect(waiting?.local.getTracks()).toEqual(devices.tracks)
  expect(live()).toHaveLength(2)
  expect(devices.asked).toHaveLength(1)
})

test('a second ring that is declined, and one that gives up, leave the first', async () => {
  const first = await talking()
  let waiting: Call | undefined
  visavis.on('ring', (incoming) => {
    waiting = incoming
  })
  await says(second)
  waiting?.decline()
  expect(visavis.call).toBe(first)
  await says({ ...second, call: 'n1-e' })
  await says({ type: 'ended', call: 'n1-e', reason: 'canceled', durationMs: 0 })
  expect(waiting?.end?.reason).toBe('canceled')
  expect(visavis.call).toBe(first)
  expect(first.state).toBe('connected')
})

test('the first ends while a second rings: that is the call then', async () => {
  const first = await talking()
  await says(second)
  first.hangup()
  expect(on()).toMatchObject({ id: 'n1-d', state: 'ringing', waiting: false })
  expect(live()).toEqual([])
})

test('what is being asked for', async () => {
  const outgoing = visavis.ring('ubo')
  await Promise.resolve()
  expect(outgoing.opening).toEqual({ audio: true, video: true })
  await settle()
  expect(outgoing.opening).toEqual({ audio: false, video: false })
})
