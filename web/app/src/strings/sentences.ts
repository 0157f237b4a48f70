// What happened, as a person would say it.

import type {
  CallRecord,
  DeviceProblem,
  EndDetail,
  PeerMedia,
  PushReadiness,
  VisavisError,
} from 'visavis'
import type { Strings } from './en.ts'

/** Why the server did not let somebody in; `code` is a listed code or `name_missing`. */
export function refusal(problem: { code: string; message: string }, t: Strings): string {
  switch (problem.code) {
    case 'name_missing':
    case 'bad_name':
    case 'name_taken':
    case 'unauthorized':
    case 'signed_out':
    case 'version':
    case 'rate_limited':
    case 'full':
    case 'restarting':
    case 'internal':
      return t.refusals[problem.code]
    default:
      return t.refusals.other(problem.message)
  }
}

/** Why a call ended. */
export function ending(end: EndDetail, direction: 'in' | 'out', name: string, t: Strings): string {
  const after = t.after
  switch (end.reason) {
    case 'hungup':
      if (end.by === 'me') return after.hungupByMe
      return end.by === 'peer' ? after.hungupByPeer(name) : after.over
    case 'canceled':
      return direction === 'out' ? after.canceledByMe(name) : after.canceledByPeer(name)
    case 'declined':
      return direction === 'out' ? after.declined(name) : after.declinedByMe
    case 'unanswered':
      return direction === 'out' ? after.unanswered(name) : after.missed(name)
    case 'unreachable':
    case 'blocked':
      return direction === 'out' ? after.unreachable(name) : after.missed(name)
    case 'busy':
      return direction === 'out' ? after.busy(name) : after.missed(name)
    case 'merged':
    case 'migrated':
      return after.elsewhere
    case 'failed':
      return end.detail ? after.failedBecause[end.detail](name) : after.failed(name)
    case 'lost':
      return end.by === 'peer' ? after.closedByPeer(name) : after.lost
    case 'limit':
      return after.limit
    case 'terminated':
      return after.terminated
    case 'restarted':
      return after.restarted
    case 'elsewhere-accepted':
      return end.tab ? after.acceptedInTab : after.acceptedElsewhere
    case 'elsewhere-declined':
      return end.tab ? after.declinedInTab : after.declinedElsewhere
    case 'error':
      return trouble(end.error, name, t)
    default:
      end.reason satisfies never
      return after.over
  }
}

function trouble(error: VisavisError | undefined, name: string, t: Strings): string {
  switch (error?.code) {
    case undefined:
      return t.after.over
    case 'not_found':
    case 'unknown_call':
      return t.after.gone(name)
    case 'in_call':
      return t.after.inCall
    case 'rate_limited':
      return t.after.tooMany
    case 'offline':
      return t.after.offline
    default:
      return t.after.refused(error?.message.replace(/\.$/u, '') ?? '')
  }
}

/**
 * Why the picture stands still. `online` is my own connection to the server; `returning` a page of mine that was loaded
 * anew; `late` says that it lasts longer than a reload does.
 */
export function interruption(
  mine: { online: boolean; returning: boolean; late: boolean },
  peer: PeerMedia['connection'],
  name: string,
  t: Strings,
): string {
  if (!mine.online) return t.call.yourConnection
  if (mine.returning) return t.call.returning
  switch (peer) {
    case 'reconnecting':
      return t.call.peerConnection(name)
    case 'reloading':
      return mine.late ? t.call.peerGone(name) : t.call.peerReloading(name)
    case 'connecting':
    case 'connected':
      return t.call.interrupted
    default:
      peer satisfies never
      return t.call.interrupted
  }
}

/**
 * What is wrong with a device, and what to do, then what that means for the other person. `sent` is what is in the call of
 * mine; a device that is may give nothing all the same.
 */
export function deviceTrouble(
  problems: readonly DeviceProblem[],
  sent: { audio: boolean; video: boolean },
  name: string,
  t: Strings,
): string[] {
  const audio = problems.find((p) => p.kind === 'audio')
  const video = problems.find((p) => p.kind === 'video')
  const sentences: string[] = []
  if (audio && video && audio.cause === video.cause) {
    sentences.push(t.devices[audio.cause].both)
  } else {
    if (video) sentences.push(t.devices[video.cause].video)
    if (audio) sentences.push(t.devices[audio.cause].audio)
  }
  const heard = sent.audio && !givesNothing(audio)
  const seen = sent.video && !givesNothing(video)
  if (audio && !heard) {
    if (video && !seen) sentences.push(t.devices.effect.both(name))
    else sentences.push(seen ? t.devices.effect.audioOnly(name) : t.devices.effect.audio(name))
  } else if (video && heard && !seen) {
    sentences.push(t.devices.effect.video(name))
  }
  return sentences
}

function givesNothing(problem: DeviceProblem | undefined): boolean {
  return problem?.cause === 'muted' || problem?.cause === 'silent'
}

/** What became of a call that nobody took, in a word or two. */
export function outcome(record: CallRecord, t: Strings): string {
  if (record.missed && record.direction === 'in') return t.home.missed
  switch (record.reason) {
    case 'declined':
      return t.home.declined
    case 'canceled':
      return t.home.canceled
    case 'busy':
      return t.home.wasBusy
    case 'unreachable':
    case 'blocked':
      return t.home.unreached
    case 'unanswered':
      return t.home.unanswered
    default:
      return t.home.failed
  }
}

/** What ringing this device while the page is closed takes, or why it cannot be. */
export function pushHint(
  state: PushReadiness,
  { secure, wantsHomeScreen }: { secure: boolean; wantsHomeScreen: boolean },
  t: Strings,
): string {
  switch (state) {
    case 'unsupported':
      if (!secure) return t.me.pushInsecure
      return wantsHomeScreen ? t.me.pushHomeScreen : t.me.pushUnsupported
    case 'unavailable':
      return t.me.pushUnavailable
    case 'blocked':
      return t.me.pushBlocked
    case 'off':
    case 'on':
      return t.me.pushHint
    default:
      state satisfies never
      return ''
  }
}

/** Why somebody could not be signed out everywhere. */
export function signOutTrouble(problem: { code: string }, t: Strings): string {
  return problem.code === 'offline' ? t.me.pushOffline : t.me.signOutFailed
}

/** Why that could not be turned on, where it could be tried again. */
export function pushTrouble(problem: { code: string; message: string }, t: Strings): string {
  switch (problem.code) {
    case 'not_allowed':
      return t.me.pushNotAllowed
    case 'no_call_yet':
      return t.me.pushFirstCall
    case 'no_push_service':
      return t.me.pushServiceAway
    case 'offline':
      return t.me.pushOffline
    default:
      return t.me.pushRefused(problem.message)
  }
}
