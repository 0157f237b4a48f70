import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import {
  type ClientMessage,
  decode,
  decodePush,
  encode,
  type Hello,
  type Pong,
  type Show,
} from './wire.ts'

const folder = new URL('../../../protocol/testdata/', import.meta.url)
const golden = (name: string) => readFileSync(new URL(name, folder), 'utf8').trim()
const sdp = JSON.parse(golden('offer.json')).description.sdp as string

const unnumbered: Record<string, Hello | Pong | Show> = {
  'hello.json': { type: 'hello', version: 1, name: 'Ann', presence: true },
  'hello-resume.json': {
    type: 'hello',
    version: 1,
    token: 'g2.MZXW6YTBOI3DQNZSGY2TMNRXGA',
    presence: true,
    presenceAt: 'k3yqkq2h.123',
    resume: 'k3yqkq2hq7',
    received: 41,
  },
  'hello-reload.json': {
    type: 'hello',
    version: 1,
    token: 'g2.MZXW6YTBOI3DQNZSGY2TMNRXGA',
    presence: true,
    resume: 'k3yqkq2hq7',
    reload: true,
    whenBusy: 'busy',
    doNotDisturb: true,
  },
  'hello-relay.json': {
    type: 'hello',
    version: 1,
    name: 'Ann',
    presence: true,
    alwaysRelay: true,
  },
  'hello-device.json': {
    type: 'hello',
    version: 1,
    token: 'g2.MZXW6YTBOI3DQNZSGY2TMNRXGA',
    presence: true,
    device: 't5U7pGbsv4ES1J3Q0mXlo6yqJrdbqHhXYjk2pZf0hbM',
    visible: true,
  },
  'show.json': {
    type: 'show',
    device: 't5U7pGbsv4ES1J3Q0mXlo6yqJrdbqHhXYjk2pZf0hbM',
    visible: false,
  },
  'pong.json': { type: 'pong', ack: 10 },
}

const call = 'n1-x2kq'
const numbered: Record<string, [number, ClientMessage]> = {
  'ring-ask.json': [1, { type: 'ring', ref: '1', to: 'ubo7', video: true, early: true }],
  'ringing.json': [3, { type: 'ringing', call }],
  'ringing-early.json': [3, { type: 'ringing', call, early: true }],
  'accept.json': [4, { type: 'accept', call }],
  'accept-relay.json': [4, { type: 'accept', call, relayOnly: true }],
  'decline.json': [4, { type: 'decline', call }],
  'hangup.json': [9, { type: 'hangup', call }],
  'hangup-late.json': [9, { type: 'hangup', call, agoMs: 8200 }],
  'hangup-failed.json': [9, { type: 'hangup', call, detail: 'description' }],
  'offer.json': [5, { type: 'offer', call, description: { type: 'offer', sdp } }],
  'offer-reload.json': [5, { type: 'offer', call, epoch: 1, description: { type: 'offer', sdp } }],
  'rejoin-ask.json': [
    1,
    { type: 'rejoin', ticket: 'eyJDYWxsIjoibjEteDJrcSJ9.c2ln', call: 'n1-x2kq' },
  ],
  'rejoin-relay.json': [
    1,
    { type: 'rejoin', ticket: 'eyJDYWxsIjoibjEteDJrcSJ9.c2ln', relayOnly: true, call: 'n1-x2kq' },
  ],
  'prefer.json': [2, { type: 'prefer', whenBusy: 'waiting', doNotDisturb: false }],
  'answer.json': [6, { type: 'answer', call, description: { type: 'answer', sdp } }],
  'candidate.json': [
    7,
    {
      type: 'candidate',
      call,
      candidates: [
        {
          candidate: 'candidate:1 1 udp 2113937151 192.0.2.1 54321 typ host',
          sdpMid: '0',
          sdpMLineIndex: 0,
          usernameFragment: 'EsAw',
        },
        { candidate: '' },
      ],
    },
  ],
  'media.json': [8, { type: 'media', call, connection: 'connected', audio: true, video: false }],
  'media-asking.json': [
    8,
    {
      type: 'media',
      call,
      connection: 'connected',
      audio: false,
      video: false,
      asking: 'both',
    },
  ],
  'media-detail.json': [
    8,
    {
      type: 'media',
      call,
      connection: 'connecting',
      audio: true,
      video: false,
      detail: 'relay_full',
    },
  ],
}

const clientOnly = [
  'hello.json',
  'hello-resume.json',
  'hello-reload.json',
  'hello-relay.json',
  'hello-device.json',
  'show.json',
  'pong.json',
  'prefer.json',
  'rejoin-ask.json',
  'rejoin-relay.json',
  'ring-ask.json',
  'decline.json',
  'hangup.json',
  'hangup-late.json',
  'hangup-failed.json',
]
const pushed = [
  'push.json',
  'push-waiting.json',
  'push-elsewhere.json',
  'push-missed.json',
  'push-ended.json',
]
// A device asks for the offer with `early`, and hides with `relayOnly`; the caller is not told of that.
const unheard = ['ringing-early.json', 'accept-relay.json']
const server = readdirSync(folder).filter(
  (name) => name.endsWith('.json') && ![...clientOnly, ...pushed, ...unheard].includes(name),
)

test.each(Object.entries(unnumbered))('%s is produced identically', (name, message) => {
  expect(encode(message)).toBe(golden(name))
})

test.each(Object.entries(numbered))('%s is produced identically', (name, [seq, message]) => {
  expect(encode(message, seq)).toBe(golden(name))
})

test.each(server)('%s decodes, whatever else it carries', (name) => {
  const { session: _, ...sent } = JSON.parse(golden(name))
  const decoded = decode(JSON.stringify({ ...sent, later: { version: 2 } }))
  // Absent and undefined are the same to a reader, and so are absent and null in a candidate.
  expect(JSON.parse(JSON.stringify(decoded))).toMatchObject(sent)
  expect(decoded).not.toHaveProperty('later')
})

test.each(pushed)('%s decodes, and is nothing that a session hears', (name) => {
  const sent = JSON.parse(golden(name))
  expect(decodePush(JSON.stringify({ ...sent, later: 1 }))).toEqual({
    ringMs: 0,
    waiting: false,
    ...sent,
  })
  expect(decode(golden(name))).toBeUndefined()
})

test.each([
  ['another message', golden('ringing.json')],
  ['a state of a later version', golden('push.json').replace('"ringing"', '"dancing"')],
  ['nobody', golden('push.json').replace('"from"', '"by"')],
])('%s is no push', (_, data) => {
  expect(decodePush(data)).toBeUndefined()
})

test.each(clientOnly)('%s is nothing that a server says', (name) => {
  expect(decode(golden(name))).toBeUndefined()
})

test.each([
  ['no text', new Uint8Array([123])],
  ['no JSON', '{'],
  ['no object', '3'],
  ['null', 'null'],
  ['an array', '[]'],
  ['an unknown type', '{"seq":1,"type":"dance"}'],
  ['an inherited name as type', '{"seq":1,"type":"constructor"}'],
  ['a negative number', '{"seq":-1,"type":"accept","call":"c"}'],
  ['a field of the wrong kind', '{"seq":1,"type":"accept","call":7}'],
  ['a field missing', '{"seq":1,"type":"ended","call":"c","durationMs":0}'],
  ['a reason that is no word', '{"seq":1,"type":"ended","call":"c","reason":7,"durationMs":0}'],
  ['a rejoin without a peer', golden('rejoin-ask.json')],
  ['a welcome without its numbers', golden('welcome.json').replace('"stalledMs"', '"later"')],
  ['an answer that is an offer', golden('offer.json').replace('"offer"', '"answer"')],
  ['candidates that are none', '{"seq":1,"type":"candidate","call":"c","candidates":[1]}'],
  ['a list that is none', '{"seq":1,"type":"candidate","call":"c","candidates":{"length":1}}'],
])('%s is no message', (_, data) => {
  expect(decode(data)).toBeUndefined()
})

test('a reason of a later version still ends the call', () => {
  const ended = golden('ended-unanswered.json').replace('unanswered', 'bored')
  expect(decode(ended)).toMatchObject({ type: 'ended', reason: 'lost' })
})
