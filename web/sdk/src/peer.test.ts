import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { FakePeerConnection, FakeTrack, fakeBrowser, settle } from './fakes.ts'
import { Peer } from './peer.ts'
import type { Description } from './wire.ts'

let described: Description[]
let trickled: string[][]
let told: string[]
let broke: number

beforeEach(() => {
  fakeBrowser()
  described = []
  trickled = []
  told = []
  broke = 0
})

afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
})

function make(polite: boolean): [Peer, FakePeerConnection] {
  const peer = new Peer({
    polite,
    iceTransportPolicy: 'all',
    iceServers: [{ urls: 'stun:stale' }],
    local: new MediaStream(),
    remote: new MediaStream(),
    owner: {
      describe: (description) => described.push(description),
      trickle: (batch) => trickled.push(batch.map(({ candidate }) => candidate ?? '')),
      connectionChanged: () => undefined,
      tracksChanged: () => undefined,
      told: (text) => told.push(text),
      broke: () => broke++,
    },
  })
  return [peer, FakePeerConnection.last]
}

/** A fake track as the browser's type; only its kind matters here. */
const track = (kind: string) => new FakeTrack(kind) as unknown as MediaStreamTrack

const all = 'm=audio \nm=video \nm=application '
const offer = (sdp = all): Description => ({ type: 'offer', sdp })
const answer = (sdp = all): Description => ({ type: 'answer', sdp })

test('the caller offers everything at once, and tracks negotiate nothing', async () => {
  const [peer, connection] = make(false)
  peer.offer([{ urls: 'stun:fresh' }])
  await settle()
  expect(connection.configuration).toMatchObject({
    bundlePolicy: 'max-bundle',
    rtcpMuxPolicy: 'require',
    iceServers: [{ urls: 'stun:fresh' }],
  })
  expect(described).toEqual([offer()])
  peer.receive(answer())
  peer.setTrack('video', track('video'))
  await settle()
  expect(connection.transceivers.map(({ sender }) => sender.track?.kind)).toEqual([
    undefined,
    'video',
  ])
  expect(connection.transceivers.map(({ sender }) => sender.parameters.encodings[0])).toEqual([
    { priority: 'high' },
    { maxBitrate: 2_500_000 },
  ])
  expect(described).toHaveLength(1)
})

test('the callee takes over what the offer has', async () => {
  const [peer, connection] = make(true)
  peer.setTrack('audio', track('audio'))
  peer.receive(offer())
  await settle()
  expect(described).toEqual([answer()])
  expect(connection.transceivers).toHaveLength(2)
  for (const { direction, sender } of connection.transceivers) {
    expect(direction).toBe('sendrecv')
    expect(sender.streams).toHaveLength(1)
  }
  expect(connection.transceivers[0]?.sender.track?.kind).toBe('audio')
  expect(peer.carries('video')).toBe(true)
})

test('the callee adds nothing to the offer of a plain page', async () => {
  const [peer, connection] = make(true)
  peer.receive(offer('m=audio '))
  await settle()
  expect(described).toEqual([answer('m=audio ')])
  expect(connection.channels).toEqual([])
  expect(peer.carries('audio')).toBe(true)
  expect(peer.carries('video')).toBe(false)
})

test('candidates that come before their description wait for it', async () => {
  const [peer, connection] = make(true)
  peer.addCandidates([{ candidate: 'one' }, { candidate: 'bad' }])
  peer.addCandidates([{ candidate: 'two' }])
  await settle()
  expect(connection.candidates).toEqual([])
  peer.receive(offer())
  peer.addCandidates([{ candidate: 'three' }])
  await settle()
  expect(connection.candidates).toEqual(['one', 'two', 'three'])
  expect(broke).toBe(0)
})

test('candidates leave in batches of 20 ms', async () => {
  const [, connection] = make(false)
  connection.gathers('one')
  vi.advanceTimersByTime(19)
  connection.gathers('two')
  expect(trickled).toEqual([])
  vi.advanceTimersByTime(1)
  connection.gathers('')
  connection.gathers(null)
  vi.advanceTimersByTime(20)
  expect(trickled).toEqual([['one', 'two'], ['']])
})

test('glare: the polite side takes its offer back, and makes it again', async () => {
  const [peer, connection] = make(true)
  peer.receive(offer())
  await settle()
  connection.restartIce()
  await settle()
  expect(connection.signalingState).toBe('have-local-offer')
  peer.receive(offer())
  await settle()
  expect(connection.rolledBack).toBe(1)
  expect(described.map(({ type }) => type)).toEqual(['answer', 'offer', 'answer'])
})

test('glare: the impolite side holds on to its offer', async () => {
  const [peer, connection] = make(false)
  peer.offer([])
  await settle()
  peer.receive(offer())
  await settle()
  expect(connection.rolledBack).toBe(0)
  peer.receive(answer())
  peer.receive(answer())
  await settle()
  expect(connection.signalingState).toBe('stable')
  expect(described).toEqual([offer()])
  expect(broke).toBe(0)
})

test('a later offer is answered, and keeps the tracks', async () => {
  const [peer, connection] = make(true)
  peer.setTrack('audio', track('audio'))
  peer.receive(offer())
  peer.receive(offer())
  await settle()
  expect(described).toEqual([answer(), answer()])
  expect(connection.transceivers).toHaveLength(2)
  expect(connection.channels).toHaveLength(1)
})

test('the impolite side restarts what failed: at once, then each 2 s, a few times', async () => {
  const [peer, connection] = make(false)
  peer.offer([])
  await settle()
  peer.receive(answer())
  await settle()
  connection.becomes('failed')
  await settle()
  expect(connection.restarts).toBe(1)
  expect(described).toHaveLength(2)
  for (let i = 0; i < 9; i++) {
    connection.becomes('failed')
    await vi.advanceTimersByTimeAsync(1999)
    expect(connection.restarts).toBe(Math.min(i + 1, 5))
    await vi.advanceTimersByTimeAsync(1)
  }
  expect(connection.restarts).toBe(5)
  connection.becomes('connected')
  connection.becomes('failed')
  await vi.advanceTimersByTimeAsync(2000)
  expect(connection.restarts).toBe(6)
})

test('the polite side restarts nothing', async () => {
  const [, connection] = make(true)
  connection.becomes('failed')
  await vi.advanceTimersByTimeAsync(10_000)
  expect(connection.restarts).toBe(0)
})

test('a description that cannot be used is told', async () => {
  const [peer] = make(true)
  peer.receive(offer('broken'))
  await settle()
  expect(broke).toBe(1)
})

test('the last word leaves before the connection closes, within 100 ms', async () => {
  const [peer, connection] = make(false)
  peer.offer([])
  await settle()
  const [channel] = connection.channels
  channel?.onmessage?.({ data: 'hello' })
  expect(told).toEqual(['hello'])
  if (channel) channel.readyState = 'open'
  peer.close('bye')
  expect(channel?.sent).toEqual(['bye'])
  channel?.onmessage?.({ data: 'too late' })
  expect(told).toEqual(['hello'])
  vi.advanceTimersByTime(100)
  expect(connection.connectionState).toBe('closed')
})

test('with no channel it closes at once, and what was queued is not done', async () => {
  const [peer, connection] = make(false)
  peer.offer([])
  peer.close('bye')
  await settle()
  expect(connection.connectionState).toBe('closed')
  expect(connection.transceivers).toEqual([])
  expect(described).toEqual([])
})
