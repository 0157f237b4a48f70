import { type DeviceProblem, type EndDetail, VisavisError } from 'visavis'
import { expect, test } from 'vitest'
import { en } from './en.ts'
import { deviceTrouble, ending, interruption, pushHint, pushTrouble, refusal } from './sentences.ts'

const reasons = [
  ['hungup', 'me', 'out', 'You hung up.'],
  ['hungup', 'peer', 'out', 'Bob hung up.'],
  ['hungup', undefined, 'out', 'The call is over.'],
  ['canceled', 'me', 'out', 'You hung up before Bob answered.'],
  ['canceled', 'peer', 'in', 'Bob stopped calling before you answered.'],
  ['declined', 'peer', 'out', 'Bob declined.'],
  ['declined', 'me', 'in', 'You declined.'],
  ['unanswered', undefined, 'out', 'No answer. Bob did not pick up.'],
  ['unanswered', undefined, 'in', 'You missed a call from Bob.'],
  ['unreachable', undefined, 'out', 'Bob could not be reached. Try again later.'],
  ['blocked', undefined, 'out', 'Bob could not be reached. Try again later.'],
  ['busy', undefined, 'out', 'Bob is busy. Try again in a while.'],
  ['lost', undefined, 'out', 'The connection was lost and did not come back.'],
  ['elsewhere-accepted', 'me', 'in', 'Answered on another device.'],
  ['elsewhere-declined', 'me', 'in', 'Declined on another device.'],
] as const

test.each(reasons)('%s by %s, %s: %s', (reason, by, direction, want) => {
  const end: EndDetail = { reason, by, durationMs: 0, error: undefined }
  expect(ending(end, direction, 'Bob', en)).toBe(want)
})

test('what was done in another tab of this browser is not said to be another device', () => {
  const end = { by: 'me', durationMs: 0, error: undefined, tab: true } as const
  const say = (reason: EndDetail['reason']) => ending({ ...end, reason }, 'in', 'Bob', en)
  expect(say('elsewhere-accepted')).toBe('Answered in another tab.')
  expect(say('elsewhere-declined')).toBe('Declined in another tab.')
})

test.each([
  ['failed', 'No picture or sound came through'],
  ['limit', 'limit'],
  ['terminated', 'Whoever runs this place'],
  ['restarted', 'restarted'],
  ['merged', 'another window'],
  ['migrated', 'another window'],
] as const)('%s is told, too', (reason, want) => {
  expect(
    ending({ reason, by: undefined, durationMs: 0, error: undefined }, 'out', 'Bob', en),
  ).toContain(want)
})

test.each([
  ['not_found', 'Bob is not here any more.'],
  ['in_call', en.after.inCall],
  ['rate_limited', en.after.tooMany],
  ['offline', en.after.offline],
  ['odd', 'The call could not be made: why not.'],
])('a call refused as %s', (code, want) => {
  const error = new VisavisError(code, 'why not.')
  const end: EndDetail = { reason: 'error', by: undefined, durationMs: 0, error }
  expect(ending(end, 'out', 'Bob', en)).toBe(want)
})

test('a refusal at the door', () => {
  expect(refusal({ code: 'name_taken', message: '' }, en)).toBe(en.refusals.name_taken)
  expect(refusal({ code: 'odd', message: 'it rains' }, en)).toContain('it rains')
})

const here = { online: true, returning: false, late: false }

test.each([
  ['connected', here, en.call.interrupted],
  ['reconnecting', here, 'Bob’s connection dropped. Waiting…'],
  ['reloading', here, 'Bob is reloading the page…'],
  ['reloading', { ...here, late: true }, 'Bob may have closed the page. Waiting…'],
  ['connected', { ...here, returning: true }, 'Coming back to the call…'],
  ['reconnecting', { ...here, returning: true }, 'Coming back to the call…'],
  ['reconnecting', { ...here, online: false }, 'Your connection dropped. Trying again…'],
  ['connected', { ...here, returning: true, online: false }, en.call.yourConnection],
] as const)('the picture stands still: theirs is %s, mine %o', (peer, mine, want) => {
  expect(interruption(mine, peer, 'Bob', en)).toBe(want)
})

const audio = (cause: DeviceProblem['cause']): DeviceProblem => ({ kind: 'audio', cause })
const video = (cause: DeviceProblem['cause']): DeviceProblem => ({ kind: 'video', cause })

test.each([
  ['nothing', [], { audio: true, video: true }, []],
  [
    'camera busy',
    [video('busy')],
    { audio: true, video: false },
    [en.devices.busy.video, 'Bob hears you but cannot see you.'],
  ],
  [
    'microphone missing in a video call',
    [audio('missing')],
    { audio: false, video: true },
    [en.devices.missing.audio, 'Bob sees you but cannot hear you.'],
  ],
  [
    'microphone denied in a voice call',
    [audio('denied')],
    { audio: false, video: false },
    [en.devices.denied.audio, 'Bob cannot hear you.'],
  ],
  [
    'both denied',
    [audio('denied'), video('denied')],
    { audio: false, video: false },
    [en.devices.denied.both, 'Bob can neither see nor hear you.'],
  ],
  [
    'one denied, one busy',
    [audio('denied'), video('busy')],
    { audio: false, video: false },
    [en.devices.busy.video, en.devices.denied.audio, 'Bob can neither see nor hear you.'],
  ],
  [
    'a headset that vanished',
    [audio('replaced')],
    { audio: true, video: true },
    [en.devices.replaced.audio],
  ],
  [
    'a phone call',
    [audio('muted')],
    { audio: true, video: true },
    [en.devices.muted.audio, 'Bob sees you but cannot hear you.'],
  ],
  [
    'a camera that froze',
    [video('silent')],
    { audio: true, video: true },
    [en.devices.silent.video, 'Bob hears you but cannot see you.'],
  ],
])('%s', (_, problems, sent, want) => {
  expect(deviceTrouble(problems, sent, 'Bob', en)).toEqual(want)
})

test.each([
  ['off', true, false, 'Calls then come as notifications'],
  ['on', true, false, 'Calls then come as notifications'],
  ['blocked', true, false, 'Your browser does not let this page show notifications'],
  ['unavailable', true, false, 'This place does not ring closed pages'],
  ['unsupported', true, false, 'This browser cannot do that'],
  ['unsupported', true, true, 'Put this page on your home screen first'],
  ['unsupported', false, true, 'Browsers do that for secure pages only'],
] as const)('ringing a closed page: %s', (state, secure, wantsHomeScreen, sentence) => {
  expect(pushHint(state, { secure, wantsHomeScreen }, en)).toContain(sentence)
})

test.each([
  ['not_allowed', 'That needs your leave to show notifications'],
  ['no_push_service', 'does not answer'],
  ['no_call_yet', 'after your first call'],
  ['offline', 'The server cannot be reached'],
  ['full', 'It could not be turned on: x.'],
])('it could not be turned on: %s', (code, sentence) => {
  expect(pushTrouble({ code, message: 'x' }, en)).toContain(sentence)
})
