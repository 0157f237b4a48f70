// Every screen of the page, with nobody at the other end. Open gallery/?screen=call, or let shots.mjs look at all of
// them. Two more parameters: dir=rtl, and still, which paints no moving pictures. A test opens one screen after the
// other with window.gallery.

import { render } from 'preact'
import {
  type Abilities,
  type CallRecord,
  type PushReadiness,
  type User,
  VisavisError,
} from 'visavis'
import { FakeCall, FakeClient } from '../src/fake.ts'
import { App } from '../src/model/app.ts'
import type { Person } from '../src/model/person.ts'
import { Settings } from '../src/settings.ts'
import { t } from '../src/strings/pick.ts'
import { Page } from '../src/view/page.tsx'
import { ann, bob, portrait as paintedPortrait, type Sitter, snow } from './portrait.ts'

const chinese = t.language.startsWith('zh')
const upright = innerHeight > innerWidth
const query = new URLSearchParams(location.search)
const moving = !query.has('still')
/** The name that everybody on the screen has, if it is to be the same. */
let everybody: string | undefined

const now = performance.now.bind(performance)

const names = chinese
  ? ['白小波', '陈伟', '李娜', '欧阳静', '王晓明', '赵敏', 'Sofia Rossi']
  : [
      'Bob Marlowe',
      'Chiara Conti',
      'Dmitri Volkov',
      'Esther Adeyemi-Thompson',
      'Grace',
      '王小明',
      'Zoë Lind',
    ]

function users(): User[] {
  return names.map((name, i) => ({
    id: `u${i}${['bo7', 'ch2', 'dm9', 'es4', 'gr1', 'wx8', 'zo3'][i]}`,
    name: everybody ?? name,
    presence: i === 2 ? 'busy' : 'online',
  }))
}

const portrait: typeof paintedPortrait = (sitter, width, height) =>
  moving
    ? paintedPortrait(sitter, width, height)
    : paintedPortrait(sitter, width / 10, height / 10, false)

let people: User[]
let peer: Person
let records: CallRecord[]
let client: FakeClient
let app: App

function record(
  i: number,
  person: number,
  minutesAgo: number,
  more: Partial<CallRecord>,
): CallRecord {
  const { id, name } = people[person] ?? peer
  const rungAt = new Date(Date.now() - minutesAgo * 60_000)
  return {
    id: `n1-${i}`,
    peer: { id, name },
    direction: 'out',
    video: true,
    rungAt,
    acceptedAt: more.durationMs ? rungAt : undefined,
    endedAt: rungAt,
    reason: 'hungup',
    durationMs: 0,
    missed: false,
    ...more,
  }
}

function lastCalls(): CallRecord[] {
  return [
    record(1, 0, 12, { durationMs: 1_275_000 }),
    record(2, 1, 55, { direction: 'in', missed: true, reason: 'unanswered' }),
    record(3, 0, 60 * 25, { direction: 'in', durationMs: 42_000, video: false }),
    record(4, 3, 60 * 28, { reason: 'unanswered' }),
    record(5, 4, 60 * 24 * 3, { direction: 'in', missed: true, reason: 'canceled', video: false }),
    record(6, 0, 60 * 24 * 4, { direction: 'in', missed: true, reason: 'canceled' }),
    record(7, 6, 60 * 24 * 40, { durationMs: 4_510_000 }),
  ]
}

/** A new page with nobody in it. */
function begin(able?: Abilities): void {
  people = users()
  const [first = { id: 'ubo7', name: 'Bob' }] = people
  peer = { id: first.id, name: first.name }
  records = lastCalls()
  client = new FakeClient()
  app = new App({
    client,
    settings: Settings.ofThisVisit(),
    secure: true,
    ...(able && { able }),
    wantsHomeScreen: true,
    preview: async () => portrait(ann, 480, 360),
  })
}

async function home(...users: User[]): Promise<void> {
  client.records = records
  await app.enter(everybody ?? (chinese ? '安妮' : 'Ann'))
  client.here(...users)
}

async function call(
  direction: 'in' | 'out',
  video = true,
  sitter: Sitter = bob,
): Promise<FakeCall> {
  await home(...people)
  const local = video ? portrait(ann, 640, 480) : new MediaStream()
  const remoteVideo = video
    ? upright
      ? portrait(sitter, 720, 1280)
      : portrait(sitter, 1280, 720)
    : new MediaStream()
  const it = new FakeCall(direction, peer, { video, local, remoteVideo })
  client.rings(it)
  return it
}

async function connected(video = true, sitter: Sitter = bob): Promise<FakeCall> {
  const it = await call('out', video, sitter)
  it.acceptedAt = performance.now() - 754_000
  it.peerMedia = { audio: true, video, connection: 'connected' }
  it.become('connected')
  return it
}

/** The picture has stood still for some seconds. */
async function stands(
  connection: FakeCall['peerMedia']['connection'],
  seconds: number,
  { video = true, sitter = bob } = {},
): Promise<void> {
  const it = await connected(video, sitter)
  if (moving) await new Promise((resolve) => setTimeout(resolve, 600))
  it.peerMedia = { audio: true, video, connection }
  it.become('reconnecting')
  performance.now = () => now() + seconds * 1000
}

/** The switch for ringing while the page is closed, as it stands there. */
async function atPush(state: PushReadiness): Promise<void> {
  await home(...people)
  client.push.become(state)
  app.home.section.value = 'me'
  setTimeout(() => document.querySelector('.me')?.scrollTo(0, innerHeight), 100)
}

function waits(): void {
  const { id, name } = people[3] ?? peer
  client.rings(new FakeCall('in', { id, name }, { waiting: true }))
}

const bothBusy = [
  { kind: 'audio', cause: 'denied' },
  { kind: 'video', cause: 'busy' },
] as const

const screens: Record<string, () => Promise<unknown>> = {
  door: async () => undefined,
  'door-taken': async () => {
    client.refusals.push(new VisavisError('name_taken', 'taken'))
    await app.enter('Bob')
  },
  'door-unreachable': async () => {
    client.silent = true
    void app.enter('Ann')
    client.become('offline')
  },
  'door-no-calls': async () => begin({ calls: false, devices: false }),
  'door-no-devices': async () => begin({ calls: true, devices: false }),
  home: () => home(...people),
  'home-empty': () => {
    const all = home()
    client.records = []
    return all
  },
  'home-gone': () => home(...people.slice(1, 3)),
  'home-gone-person': async () => {
    await home()
    app.home.chosen.value = app.home.people.value[1]
  },
  'home-person': async () => {
    await home(...people)
    app.home.chosen.value = people[0]
  },
  'home-search': async () => {
    await home(...people)
    app.home.query.value = 'zz'
  },
  'home-lost': async () => {
    await home(...people)
    client.become('offline')
  },
  recents: async () => {
    await home(...people)
    app.home.section.value = 'recents'
  },
  'recents-empty': async () => {
    await home(...people)
    app.home.recents.value = []
    app.home.section.value = 'recents'
  },
  me: async () => {
    await home(...people)
    app.home.section.value = 'me'
  },
  'me-push-on': () => atPush('on'),
  'me-push-blocked': () => atPush('blocked'),
  'me-push-iphone': () => atPush('unsupported'),
  'me-quiet': async () => {
    await home(...people)
    app.choices.prefer({ whenBusy: 'busy', doNotDisturb: true })
    app.home.section.value = 'me'
    setTimeout(() => document.querySelector('.me')?.scrollTo(0, innerHeight), 100)
  },
  'home-quiet': async () => {
    await home(...people)
    app.choices.prefer({ doNotDisturb: true })
  },
  'recents-quiet': async () => {
    await home(...people)
    app.choices.prefer({ doNotDisturb: true })
    app.home.section.value = 'recents'
  },
  'ringing-in': () => call('in'),
  'ringing-in-voice': () => call('in', false),
  'ringing-in-elsewhere': async () => {
    await home(...people)
    client.rings(new FakeCall('in', peer, { waiting: true }))
  },
  'ringing-out': async () => (await call('out')).become('ringing'),
  call: () => connected(),
  'call-muted': async () => {
    const it = await connected()
    it.change({ micOn: false, peerMedia: { audio: false, video: true, connection: 'connected' } })
  },
  'call-camera-off': async () => {
    const it = await connected()
    it.change({ peerMedia: { audio: true, video: false, connection: 'connected' } })
  },
  'call-asked': async () => {
    const it = await connected()
    const off = { audio: false, video: false, connection: 'connected' } as const
    it.change({ peerMedia: { ...off, asking: 'both' } })
  },
  'recents-incomplete': async () => {
    client.incomplete = true
    await home(...people)
    app.home.section.value = 'recents'
  },
  'call-swapped': async () => {
    await connected()
    app.call.value?.layout.swap()
  },
  'call-problem': async () => {
    const it = await connected()
    it.change({ cameraOn: false, problems: [{ kind: 'video', cause: 'busy' }] })
  },
  'call-waiting': async () => {
    await connected()
    waits()
  },
  'call-waiting-problems': async () => {
    const it = await connected()
    it.change({ micOn: false, cameraOn: false, problems: bothBusy })
    waits()
  },
  'call-problems': async () => {
    const it = await connected()
    it.change({ micOn: false, cameraOn: false, problems: bothBusy })
  },
  'call-problems-open': async () => {
    const it = await connected()
    it.change({ micOn: false, cameraOn: false, problems: bothBusy })
    setTimeout(() => document.querySelector<HTMLElement>('.device-trouble-fold')?.click(), 100)
  },
  'call-voice': () => connected(false),
  'call-blocked': async () => {
    await connected()
    if (app.call.value) app.call.value.soundBlocked.value = true
  },
  'call-reconnecting': () => stands('reconnecting', 7),
  'call-reconnecting-bright': () => stands('connected', 7, { sitter: snow }),
  'call-reconnecting-mine': async () => {
    await stands('connected', 3)
    client.become('offline')
  },
  'call-reconnecting-voice': () => stands('reconnecting', 7, { video: false }),
  'call-reconnecting-waiting': async () => {
    await stands('reconnecting', 7)
    waits()
  },
  'call-reloading': () => stands('reloading', 2),
  'call-reloading-late': () => stands('reloading', 9),
  'call-returning': async () => {
    await home(...people)
    const it = new FakeCall('in', peer, { local: portrait(ann, 640, 480) })
    it.state = 'reconnecting'
    it.acceptedAt = performance.now() - 754_000
    it.opening = { audio: true, video: true }
    client.takes(it)
  },
  returning: async () => {
    app.returning.value = peer
  },
  after: async () => (await connected()).finish('hungup', 'peer', 754_000),
  'after-declined': async () => (await call('out')).finish('declined', 'peer'),
}

declare global {
  interface Window {
    /** Shows one screen after the other. */
    gallery: {
      readonly screens: readonly string[]
      open(screen: string, name?: string): Promise<void>
    }
  }
}

const root = document.getElementById('app')
if (!root) throw new Error('no #app')

async function open(screen: string, name?: string): Promise<void> {
  performance.now = now
  everybody = name
  begin()
  await app.start()
  await screens[screen]?.()
  render(<Page key={app} app={app} />, root as HTMLElement)
}

window.gallery = { screens: Object.keys(screens), open }
document.documentElement.lang = t.language
document.documentElement.dir = query.get('dir') ?? 'ltr'
await open(query.get('screen') ?? 'home')
document.documentElement.setAttribute('data-screens', Object.keys(screens).join(' '))
