import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { FakePeerConnection, fakeBrowser, settle, timings } from './fakes.ts'
import { Link } from './link.ts'
import { Remote } from './remote.ts'
import type { Transport } from './transport.ts'

let link: Link
/** What was sent, as `offer 1`: type and epoch. */
let sent: string[]
let reachable: boolean
let iceServers: RTCIceServer[]
/** The transport that worked, as a page remembers it. */
let remembered: Transport | undefined

beforeEach(() => {
  fakeBrowser()
  vi.spyOn(Math, 'random').mockReturnValue(0.5)
  sent = []
  reachable = true
  iceServers = []
  remembered = undefined
  link = make(false)
})

function make(polite: boolean): Link {
  return new Link({
    polite,
    iceTransportPolicy: 'all',
    lastTransport: remembered,
    early: false,
    local: new MediaStream(),
    remote: new Remote(),
    owner: {
      timings: () => timings,
      iceServers: () => iceServers,
      track: () => undefined,
      sourcesMeasured: () => undefined,
      mediaExpected: () => true,
      reachable: () => reachable,
      send: ({ type, epoch = 0 }) => sent.push(`${type} ${epoch}`),
      check: () => undefined,
      transportWorked: (transport) => {
        remembered = transport
      },
      renewed: () => undefined,
      changed: () => undefined,
      tracksChanged: () => undefined,
      dataReceived: () => undefined,
      negotiationFailed: () => undefined,
      tick: () => undefined,
    },
  })
}

afterEach(() => {
  link.close()
  vi.useRealTimers()
  vi.unstubAllGlobals()
  vi.restoreAllMocks()
})

/** Two are connected, and what comes flows; the other party names the offer that it answers, or does not. */
async function connect(named: boolean, head = '') {
  link.begin()
  link.release()
  link.offer()
  await settle()
  const mark = head + (named ? 'a=visavis-offer:1\n' : '')
  const sdp = `${mark}m=audio \nm=video \nm=application `
  link.receive({ type: 'answer', call: 'n1-c', description: { type: 'answer', sdp } })
  await settle()
  const connection = FakePeerConnection.last
  connection.becomes('connected')
  link.watch()
  for (let i = 0; i < 20; i++) {
    connection.bytes += 1000
    await vi.advanceTimersByTimeAsync(250)
  }
  sent = []
  return connection
}

async function restarts() {
  const sdp = 'a=visavis-offer:2\nm=audio \nm=video \nm=application '
  link.receive({ type: 'offer', call: 'n1-c', description: { type: 'offer', sdp } })
  await settle()
}

async function sleep() {
  vi.setSystemTime(Date.now() + 8000)
  await vi.advanceTimersByTimeAsync(260)
}

test('a machine that slept: a new connection, as soon as the server is reached', async () => {
  const before = await connect(true)
  reachable = false
  await sleep()
  expect(sent).toEqual([])
  reachable = true
  link.reachableAgain('none')
  await vi.advanceTimersByTimeAsync(10)
  expect(before.restarts).toBe(0)
  expect(before.connectionState).toBe('closed')
  expect(sent).toEqual(['offer 1'])
  // Once: what comes after that is a fault like any other.
  const after = FakePeerConnection.last
  link.receive({
    type: 'answer',
    call: 'n1-c',
    epoch: 1,
    description: { type: 'answer', sdp: 'a=visavis-offer:1\nm=audio ' },
  })
  await settle()
  after.becomes('connected')
  link.networkChanged('other')
  await vi.advanceTimersByTimeAsync(1000)
  expect(after.restarts).toBe(1)
  expect(FakePeerConnection.last).toBe(after)
})

test('a network that was gone is followed by a new connection, another one by a restart', async () => {
  const connection = await connect(true)
  link.networkChanged('other')
  await vi.advanceTimersByTimeAsync(1000)
  expect(connection.restarts).toBe(1)
  expect(FakePeerConnection.last).toBe(connection)
  link.networkChanged('back')
  await vi.advanceTimersByTimeAsync(1000)
  expect(connection.restarts).toBe(1)
  expect(connection.connectionState).toBe('closed')
  expect(FakePeerConnection.last).not.toBe(connection)
})

describe('an estimate of how fast the network is', () => {
  let hosts: string[]
  const complete = FakePeerConnection.prototype.gathered

  beforeEach(() => {
    hosts = ['192.0.2.7']
    vi.stubGlobal('navigator', { connection: new EventTarget() })
    // What a connection without media finds are the addresses of the machine.
    vi.spyOn(FakePeerConnection.prototype, 'gathered').mockImplementation(function (
      this: FakePeerConnection,
    ) {
      const lines = hosts.map((host, i) => `\na=candidate:${i} 1 udp 1 ${host} 5000 typ host`)
      if (this.localDescription) this.localDescription.sdp += lines.join('')
      complete.call(this)
    })
  })

  test.each<[string, string[], number]>([
    ['of the same network', ['192.0.2.7'], 0],
    ['of another network', ['198.51.100.7'], 1],
    ['of one network more', ['192.0.2.7', '2001:db8::7'], 1],
    ['of a network that the browser hides', ['f00.local'], 0],
  ])('%s', async (_, now, restarts) => {
    const connection = await connect(true)
    hosts = now
    link.networkChanged('perhaps')
    await vi.advanceTimersByTimeAsync(1000)
    expect(connection.restarts).toBe(restarts)
    // Nothing was left open to find that out.
    const open = FakePeerConnection.all.filter(
      ({ connectionState }) => connectionState !== 'closed',
    )
    expect(open).toEqual([connection])
  })
})

const turn = (name: string) => `turn:${name}?transport=udp`
const relays: RTCIceServer[] = [
  { urls: ['stun:one'] },
  { urls: [turn('one'), 'turn:one?transport=tcp', 'turns:one?transport=tcp'], username: 'u' },
]

/** What a connection may use: the policy, and the schemes and transports of its servers. */
function configurationOf({ configuration }: FakePeerConnection): string {
  const urls = (configuration.iceServers ?? []).flatMap((server) => [server.urls].flat())
  const kinds = urls.map((url) => url.replace(/:one\??(transport=)?/, ' ').trim())
  return `${configuration.iceTransportPolicy}: ${kinds.join(', ')}`
}

/** Each offer is answered, and finds a path: STUN passes. Media comes, or not, as `comes` says; for this long. */
async function finds(comes: (connection: FakePeerConnection) => boolean, ms: number) {
  const seen: string[] = []
  for (let passed = 0; passed < ms; passed += 250) {
    const connection = FakePeerConnection.last
    const offered = sent.findLast((each) => each.startsWith('offer'))
    if (connection.signalingState === 'have-local-offer' && offered !== undefined) {
      const epoch = Number(offered.slice('offer '.length))
      const sdp = 'm=audio \nm=video \nm=application '
      link.receive({
        type: 'answer',
        call: 'n1-c',
        epoch,
        description: { type: 'answer', sdp: `a=visavis-offer:${offersOf(connection)}\n${sdp}` },
      })
      await settle()
      connection.becomes('connected')
    }
    if (configurationOf(connection) !== seen.at(-1)) seen.push(configurationOf(connection))
    if (comes(connection)) connection.bytes += 1000
    await vi.advanceTimersByTimeAsync(250)
  }
  return seen
}

/** How many offers a connection has made: the first one, and one with each restart. */
const offersOf = (connection: FakePeerConnection) => connection.restarts + 1

const any = 'all: stun, turn udp, turn tcp, turns tcp'

test('a path that STUN passes and media does not: relay only, then TCP, then TLS, and what worked is remembered', async () => {
  iceServers = relays
  await connect(true)
  const steps = [
    any,
    'relay: turn udp, turn tcp, turns tcp',
    'relay: turn tcp, turns tcp',
    'relay: turns tcp',
  ]
  expect(await finds((c) => configurationOf(c) === steps[3], 40_000)).toEqual(steps)
  expect(link.mediaState).toBe('connected')
  expect(remembered).toBe('tls')
  link.close()
  // The next call on this network.
  link = make(false)
  const next = await connect(true)
  expect(configurationOf(next)).toBe(steps[3])
  await link.networkChanged('other')
  await vi.advanceTimersByTimeAsync(1000)
  expect(remembered).toBeUndefined()
  expect(configurationOf(FakePeerConnection.last)).toBe(any)
})

test('the relay carries what the direct path does not: nothing else is tried', async () => {
  iceServers = relays
  await connect(true)
  const begin = performance.now()
  let came = 0
  await finds((connection) => {
    const comes = connection.configuration.iceTransportPolicy === 'relay'
    if (comes) came ||= performance.now() - begin
    return comes
  }, 20_000)
  expect(remembered).toBe('relay')
  expect(came).toBeLessThan(8000)
})

test('who answers goes over to another transport, too, though the other party is the one who looks for a path', async () => {
  iceServers = relays
  link = make(true)
  const connection = await connect(true)
  for (let offer = 2; offer < 5; offer++) {
    await vi.advanceTimersByTimeAsync(1200)
    expect(connection.configuration.iceTransportPolicy).toBe('all')
    const sdp = `a=visavis-offer:${offer}\nm=audio \nm=video \nm=application `
    link.receive({ type: 'offer', call: 'n1-c', description: { type: 'offer', sdp } })
    await settle()
  }
  expect(connection.configuration.iceTransportPolicy).toBe('relay')
})

test('a network that is away is no reason for another transport', async () => {
  iceServers = relays
  const connection = await connect(true)
  connection.becomes('disconnected')
  await vi.advanceTimersByTimeAsync(30_000)
  expect(configurationOf(FakePeerConnection.last)).toBe(any)
  expect(remembered).toBeUndefined()
})

test('a machine that slept, in a call with one who would not take a new connection', async () => {
  const connection = await connect(false)
  await sleep()
  expect(connection.restarts).toBe(1)
  expect(FakePeerConnection.last).toBe(connection)
})

test('the other party restarts before we know that nothing comes: answered with all relays', async () => {
  iceServers = [{ urls: 'turn:one' }, { urls: 'turn:other' }]
  link = make(true)
  const connection = await connect(true)
  await restarts()
  expect(connection.configuration.iceServers).toHaveLength(1)
  await vi.advanceTimersByTimeAsync(800)
  expect(link.mediaState).toBe('connected')
  await restarts()
  expect(connection.configuration.iceServers).toEqual(iceServers)
})

test.each([
  ['offer', 1],
  ['answer', 2],
] as const)('a connection that refuses an %s is replaced at once', async (type, mark) => {
  const before = await connect(true)
  if (type === 'answer') {
    link.networkChanged('other')
    await vi.advanceTimersByTimeAsync(1000)
    sent = []
  }
  vi.spyOn(before, 'setRemoteDescription').mockRejectedValue(new Error('refused'))
  const sdp = `a=visavis-offer:${mark}\nm=audio `
  link.receive({ type, call: 'n1-c', description: { type, sdp } })
  await settle()
  expect(before.connectionState).toBe('closed')
  expect(sent).toEqual(['offer 1'])
})

test('a restart towards Firefox, which may lose its media by one: a new connection', async () => {
  const before = await connect(true, 'v=0\no=mozilla...THIS_IS 1 0 IN IP4 0.0.0.0\n')
  await link.networkChanged('other')
  await vi.advanceTimersByTimeAsync(1000)
  expect(before.restarts).toBe(0)
  expect(before.connectionState).toBe('closed')
  expect(sent).toEqual(['offer 1'])
})

test('both restart at once: the callee begins a new connection', async () => {
  link = make(true)
  const before = await connect(true)
  link.networkChanged('other')
  await vi.advanceTimersByTimeAsync(1000)
  expect(sent).toEqual(['offer 0'])
  await restarts()
  expect(before.rolledBack).toBe(0)
  expect(before.connectionState).toBe('closed')
  expect(sent).toEqual(['offer 0', 'offer 1'])
})

test.each([
  ['caller', false, 3000],
  ['callee', true, 4000],
] as const)(
  'media goes soon after an agreement: the %s restarts in its turn',
  async (_, polite, ms) => {
    link = make(polite)
    const connection = await connect(true)
    // Agreed on anew, and media flows by it.
    await restarts()
    const agreed = performance.now()
    connection.bytes += 1000
    await vi.advanceTimersByTimeAsync(ms - 50 - (performance.now() - agreed))
    expect(connection.restarts).toBe(0)
    await vi.advanceTimersByTimeAsync(100)
    expect(connection.restarts).toBe(1)
  },
)
