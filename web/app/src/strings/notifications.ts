// What notifications say, which come while no page is open. They stand apart from the page's own words, for the service
// worker carries them along.

import type { Sentences } from 'visavis/worker'

const en: Sentences = {
  ringing: (name, video) => ({
    title: `${name} is calling`,
    body: video ? 'Video call. Tap to accept.' : 'Voice call. Tap to accept.',
  }),
  elsewhere: (name) => ({
    title: `${name} called`,
    body: 'You accepted or declined on another device.',
  }),
  missed: (name, video) => ({
    title: `Missed call from ${name}`,
    body: video ? 'Video call' : 'Voice call',
  }),
  ended: (name) => ({ title: `${name} called`, body: 'The call is over.' }),
  decline: 'Decline',
}

const zh: Sentences = {
  ringing: (name, video) => ({
    title: `${name}来电`,
    body: video ? '视频通话。点按即可接听。' : '语音通话。点按即可接听。',
  }),
  elsewhere: (name) => ({ title: `${name}来过电`, body: '已在其他设备上接听或拒绝。' }),
  missed: (name, video) => ({
    title: `${name}的未接来电`,
    body: video ? '视频通话' : '语音通话',
  }),
  ended: (name) => ({ title: `${name}来过电`, body: '通话已结束。' }),
  decline: '拒绝',
}

/** The words of a language that the browser names so: Chinese, or else English. */
export function notifications(language: string): Sentences {
  return /^zh\b/iu.test(language) ? zh : en
}
