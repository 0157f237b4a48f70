import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { FakePeerConnection, FakeTrack, fakeBrowser, settle } from './fakes.ts'
import { Peer, type PeerOptions } from './peer.ts'
import { Remote } from './remote.ts'
import type { Description } from './wire.ts'

let described: Description[]
let trickled: string[][]
let told: string[]
let broke: number
let collided: number

beforeEach(() => {
  fakeBrowser()
  described = []
  trickled = []
  told = []
  broke = 0
  collided = 0
})

afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
})

function make(polite: boolean, more: Partial<PeerOptions> = {}): [Peer, FakePeerConnection] {
  const peer = new Peer({
    polite,
    iceTransportPolicy: 'all',
    held: false,
    iceServers: [{ urls: 'stun:stale' }],
    local: new MediaStream(),
    remote: new Remote(),
    owner: {
      describe: (description) => described.push(description),
      trickle: (batch) => trickled.push(batch.map(({ candidate }) => candidate ?? '')),
      connectionChanged: () => undefined,
      tracksChanged: () => undefined,
      dataReceived: (text) => told.push(text),
      negotiationFailed: () => {
        broke++
      },
      collided: () => {
        collided++
      },
    },
    ...more,
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
  peer.offer([{ urls: 'stun:fresh' }], 'all')
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
    { maxBitrate: 2_500_000, scaleResolutionDownBy: 4 },
  ])
  expect(described).toHaveLength(1)
})

test.each([
  ['a line that carries it', [700_000], [1]],
  ['a narrow line, until it carries more', [200_000, 400_000, 500_000], [2, 2, 1]],
  ['a browser that does not tell', [undefined], [1]],
])('the first picture is small, and grows on %s', async (_, bitrates, scales) => {
  vi.useFakeTimers()
  const [peer, connection] = make(false)
  peer.offer([], 'all')
  await vi.advanceTimersByTimeAsync(0)
  peer.receive(answer())
  await vi.advanceTimersByTimeAsync(5000)
  const encoding = () => connection.transceivers[1]?.sender.parameters.encodings[0]
  expect(encoding()).toMatchObject({ scaleResolutionDownBy: 4 })
  peer.setTrack('video', track('video'))
  await vi.advanceTimersByTimeAsync(900)
  expect(encoding()).toMatchObject({ scaleResolutionDownBy: 4 })
  for (const [i, availableOutgoingBitrate] of bitrates.entries()) {
    connection.stats = [
      { type: 'candidate-pair' },
      { type: 'candidate-pair', availableOutgoingBitrate },
      { type: 'candidate-pair' },
    ]
    await vi.advanceTimersByTimeAsync(1000)
    expect(encoding()).toEqual({ maxBitrate: 2_500_000, scaleResolutionDownBy: scales[i] })
  }
  await vi.advanceTimersByTimeAsync(1000)
  expect(vi.getTimerCount()).toBe(0)
  peer.close()
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
  expect(peer.canSend('video')).toBe(true)
})

test('the callee adds nothing to the offer of a plain page', async () => {
  const [peer, connection] = make(true)
  peer.receive(offer('m=audio '))
  await settle()
  expect(described).toEqual([answer('m=audio ')])
  expect(connection.channels).toEqual([])
  expect(peer.canSend('audio')).toBe(true)
  expect(peer.canSend('video')).toBe(false)
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

test('glare: the polite side takes nothing back, and asks for another connection', async () => {
  const [peer, connection] = make(true)
  peer.receive(offer(`a=visavis-offer:1\n${all}`))
  await settle()
  peer.restart({ iceServers: [], iceTransportPolicy: 'all' })
  await settle()
  peer.receive(offer(`a=visavis-offer:2\n${all}`))
  await settle()
  expect(connection.rolledBack).toBe(0)
  expect(collided).toBe(1)
  expect(described.map(({ type }) => type)).toEqual(['answer', 'offer'])
})

test('glare with one who names no offers: the polite side takes its offer back, and makes it again', async () => {
  const [peer, connection] = make(true)
  peer.receive(offer())
  await settle()
  peer.restart({ iceServers: [], iceTransportPolicy: 'all' })
  await settle()
  expect(connection.signalingState).toBe('have-local-offer')
  peer.receive(offer())
  await settle()
  expect(connection.rolledBack).toBe(1)
  expect(described.map(({ type }) => type)).toEqual(['answer', 'offer', 'answer', 'offer'])
})

test('glare: the impolite side holds on to its offer', async () => {
  const [peer, connection] = make(false)
  peer.offer([], 'all')
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

test('glare: the impolite side holds on to an offer that it has not made yet', async () => {
  const [peer, connection] = make(false)
  peer.offer([], 'all')
  peer.receive(offer())
  await settle()
  expect(described).toEqual([offer()])
  expect(connection.transceivers).toHaveLength(2)
  peer.receive(answer())
  await settle()
  expect(connection.signalingState).toBe('stable')
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

test('held: no sender has a track before the release, whenever it is set', async () => {
  const [caller, one] = make(false, { held: true, iceTransportPolicy: 'relay' })
  const [callee, other] = make(true, { held: true, iceTransportPolicy: 'relay' })
  caller.setTrack('audio', track('audio'))
  caller.offer([], 'relay')
  callee.receive(offer())
  caller.receive(answer())
  callee.setTrack('audio', track('audio'))
  await settle()
  const senders = () => [one, other].map(({ transceivers }) => transceivers[0]?.sender.track?.kind)
  expect(senders()).toEqual([undefined, undefined])
  expect(one.configuration.iceTransportPolicy).toBe('relay')
  caller.release('all')
  callee.release('all')
  // Already: whatever else an accept brings about comes after it.
  expect(senders()).toEqual(['audio', 'audio'])
  await settle()
  for (const { configuration } of [one, other]) {
    expect(configuration.iceTransportPolicy).toBe('all')
  }
  expect(described).toHaveLength(2)
})

test.each<
  [string, boolean, number, ((peer: Peer, connection: FakePeerConnection) => void) | undefined]
>([
  ['until there are no more', true, 30, (_, connection) => connection.gathered()],
  ['until the call is accepted', true, 30, (peer) => peer.release('all')],
  ['for 200 ms', true, 200, undefined],
  ['not at all once it is accepted', false, 0, undefined],
])('the first offer waits for its candidates %s', async (_, held, ms, then) => {
  vi.useFakeTimers()
  const [peer, connection] = make(false, { held })
  connection.looks = true
  peer.offer([], 'all')
  await vi.advanceTimersByTimeAsync(0)
  if (ms > 0) {
    connection.gathers('in the offer')
    await vi.advanceTimersByTimeAsync(ms - 1)
    expect(described).toEqual([])
    then?.(peer, connection)
    await vi.advanceTimersByTimeAsync(then ? 0 : 1)
  }
  expect(described).toEqual([offer()])
  connection.gathers('later')
  await vi.advanceTimersByTimeAsync(20)
  expect(trickled).toEqual([['later']])
  // A restart is urgent.
  peer.receive(answer())
  peer.restart({ iceServers: [], iceTransportPolicy: 'all' })
  await vi.advanceTimersByTimeAsync(0)
  expect(described).toHaveLength(2)
  peer.close()
  expect(vi.getTimerCount()).toBe(0)
})

test('glare of two restarts with one who names no offers: one is enough', async () => {
  const [peer] = make(true)
  const restart = (n: number) => offer(`a=ice-ufrag:${n}\n${all}`)
  peer.receive(restart(1))
  await settle()
  peer.restart({ iceServers: [], iceTransportPolicy: 'all' })
  await settle()
  peer.receive(restart(2))
  await settle()
  expect(described.map(({ type }) => type)).toEqual(['answer', 'offer', 'answer'])
})

test('a browser that asks for no offer after restartIce() restarts, and takes offers after that', async () => {
  vi.spyOn(FakePeerConnection.prototype, 'restartIce').mockImplementation(() => undefined)
  const [peer, connection] = make(false)
  peer.offer([], 'all')
  peer.receive(answer())
  peer.restart({ iceServers: [], iceTransportPolicy: 'all' })
  peer.receive(answer())
  peer.receive(offer())
  await settle()
  expect(described.map(({ type }) => type)).toEqual(['offer', 'offer', 'answer'])
  expect(connection.signalingState).toBe('stable')
  vi.restoreAllMocks()
})

/** A browser that answers as `active` whatever it was before, or one that refuses another role than before. */
function roles(answers: 'active' | 'as before') {
  const sdp = (role: string) => `a=setup:${role}\r\n${all}`
  let role: string | undefined
  vi.spyOn(FakePeerConnection.prototype, 'setLocalDescription').mockImplementation(async function (
    this: FakePeerConnection,
  ) {
    const offered = /a=setup:(\w+)/.exec(this.remoteDescription?.sdp ?? '')?.[1]
    const answer = offered === 'active' ? 'passive' : 'active'
    if (this.signalingState === 'have-remote-offer') {
      if (answers === 'as before' && role && role !== answer) throw new Error('role changed')
      role ??= answer
      this.localDescription = { type: 'answer', sdp: sdp(answer) }
      this.signalingState = 'stable'
    } else {
      this.localDescription = { type: 'offer', sdp: sdp('actpass') }
      this.signalingState = 'have-local-offer'
    }
  })
  return sdp
}

test('the DTLS role stays: of one who was the server, whatever is offered', async () => {
  const sdp = roles('active')
  const [peer] = make(false)
  peer.offer([], 'all')
  await settle()
  peer.receive({ type: 'answer', sdp: sdp('active') })
  peer.receive({ type: 'offer', sdp: sdp('actpass') })
  await settle()
  expect(described.map(({ sdp }) => setupOf(sdp))).toEqual(['actpass', 'passive'])
  vi.restoreAllMocks()
})

test('the DTLS role stays: of one who was the client, whatever is answered', async () => {
  const sdp = roles('as before')
  const applied = vi.spyOn(FakePeerConnection.prototype, 'setRemoteDescription')
  const [peer] = make(true)
  peer.receive({ type: 'offer', sdp: sdp('actpass') })
  await settle()
  peer.restart({ iceServers: [], iceTransportPolicy: 'all' })
  await settle()
  // As Firefox does, which is the server here.
  peer.receive({ type: 'answer', sdp: sdp('active') })
  await settle()
  expect(applied.mock.calls.map(([{ sdp }]) => setupOf(sdp))).toEqual(['actpass', 'passive'])
  vi.restoreAllMocks()
})

const setupOf = (sdp: string) => /a=setup:(\w+)/.exec(sdp)?.[1]

test('a restart offers with fresh servers, and again while it has no answer', async () => {
  const [peer, connection] = make(false)
  peer.offer([], 'all')
  peer.receive(answer())
  await settle()
  for (let i = 0; i < 3; i++)
    peer.restart({ iceServers: [{ urls: `turn:${i}` }], iceTransportPolicy: 'all' })
  await settle()
  expect(connection.restarts).toBe(3)
  expect(connection.configuration.iceServers).toEqual([{ urls: 'turn:2' }])
  expect(described.map(({ type }) => type)).toEqual(['offer', 'offer', 'offer', 'offer'])
  expect(connection.signalingState).toBe('have-local-offer')
})

test('when it was agreed, with whom, and what came of it', async () => {
  const [peer, connection] = make(true)
  expect(peer.negotiatedAt).toBe(Number.NEGATIVE_INFINITY)
  vi.advanceTimersByTime(1000)
  peer.receive(offer())
  await settle()
  expect(peer.negotiatedAt).toBe(performance.now())
  expect([peer.remoteIsSdk, peer.wasConnected]).toEqual([false, false])
  connection.becomes('connected')
  connection.becomes('failed')
  peer.receive(offer(`a=visavis-offer:1\n${all}`))
  await settle()
  expect([peer.remoteIsSdk, peer.wasConnected]).toEqual([true, true])
})

test('another path: the next picture is a whole one, once for all steps to it', async () => {
  const [peer, connection] = make(false)
  peer.setTrack('video', track('video'))
  peer.offer([], 'all')
  await settle()
  peer.receive(answer())
  await settle()
  const sender = connection.transceivers[1]?.sender
  const change = () =>
    sender?.transport.iceTransport.dispatchEvent(new Event('selectedcandidatepairchange'))
  change()
  vi.advanceTimersByTime(20)
  change()
  await vi.advanceTimersByTimeAsync(30)
  await settle()
  expect(sender?.whole).toBe(1)
  await vi.advanceTimersByTimeAsync(1000)
  expect(sender?.whole).toBe(1)
  change()
  await vi.advanceTimersByTimeAsync(50)
  await settle()
  expect(sender?.whole).toBe(2)
  peer.setTrack('video', null)
  peer.refresh()
  await vi.advanceTimersByTimeAsync(50)
  expect(sender?.whole).toBe(2)
  expect(broke).toBe(0)
})

test('an answer to an offer that another overtook is no answer to that', async () => {
  const real = (sections: string, mark = '') => `v=0\r\nt=0 0\r\n${mark}${sections}`
  vi.spyOn(FakePeerConnection.prototype, 'setLocalDescription').mockImplementation(async function (
    this: FakePeerConnection,
  ) {
    const answers = this.signalingState === 'have-remote-offer'
    this.localDescription = { type: answers ? 'answer' : 'offer', sdp: real(all) }
    this.signalingState = answers ? 'stable' : 'have-local-offer'
  })
  const [peer, connection] = make(false)
  peer.offer([], 'all')
  await settle()
  peer.restart({ iceServers: [], iceTransportPolicy: 'all' })
  await settle()
  const [first = '', last = ''] = described.map(({ sdp }) => sdp)
  expect(first).toBe(real(all, 'a=visavis-offer:1\r\n'))
  const [other] = make(true)
  other.receive({ type: 'offer', sdp: first })
  await settle()
  other.receive({ type: 'offer', sdp: last })
  await settle()
  const [early, late] = described.slice(2)
  if (early) peer.receive(early)
  await settle()
  expect(connection.signalingState).toBe('have-local-offer')
  if (late) peer.receive(late)
  await settle()
  expect(connection.signalingState).toBe('stable')
  vi.restoreAllMocks()
})

/** Connects anew, as a page of which nothing has come yet, and tells the tracks. */
async function receives(remote: Remote): Promise<[Peer, FakeTrack[]]> {
  const [peer, connection] = make(true, { remote })
  const add = connection.ontrack
  const tracks: FakeTrack[] = []
  connection.ontrack = (event) => {
    event.track.muted = true
    tracks.push(event.track)
    add?.(event)
  }
  peer.receive(offer())
  await settle()
  return [peer, tracks]
}

const tracksOf = ({ both, single }: Remote) =>
  [both, single.audio, single.video].map((stream) => stream.getTracks())

test('the first picture is not beside the sound before it is there, and in a stream of its own from the start', async () => {
  const remote = new Remote()
  const [, [sound, picture]] = await receives(remote)
  expect(tracksOf(remote)).toEqual([[sound], [sound], [picture]])
  picture?.onunmute?.()
  expect(tracksOf(remote)).toEqual([[sound, picture], [sound], [picture]])
})

test('a new connection takes the place of the one before: the last picture stays until one comes', async () => {
  const remote = new Remote()
  const [before, [sound, picture]] = await receives(remote)
  picture?.onunmute?.()
  before.close()
  const [after, [freshSound, freshPicture]] = await receives(remote)
  expect(tracksOf(remote)).toEqual([[sound, picture], [sound], [picture]])
  freshPicture?.onunmute?.()
  expect(tracksOf(remote)).toEqual([[sound, freshPicture], [sound], [freshPicture]])
  after.close()
  // Too late.
  freshSound?.onunmute?.()
  expect(tracksOf(remote)).toEqual([[sound, freshPicture], [sound], [freshPicture]])
})

test('a description that cannot be used is told', async () => {
  const [peer] = make(true)
  peer.receive(offer('broken'))
  await settle()
  expect(broke).toBe(1)
})

test('the last word leaves before the connection closes, within 100 ms', async () => {
  const [peer, connection] = make(false)
  peer.offer([], 'all')
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
  peer.offer([], 'all')
  peer.close('bye')
  await settle()
  expect(connection.connectionState).toBe('closed')
  expect(connection.transceivers).toEqual([])
  expect(described).toEqual([])
})
