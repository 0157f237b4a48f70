// What is really seen and heard: frames that were decoded, pixels that change, sound that has energy.

import type { Locator, Page } from 'playwright-core'
import { until } from './until.ts'

/** One of those who talk to each other, in whatever page. */
export interface Party {
  readonly name: string
  readonly page: Page
  /** The video element with that person's picture. */
  picture(of: string): Locator
  /** The element that plays the other one's sound. */
  sound(): Locator
}

/** What a page's connection has received so far. */
interface Received {
  readonly connected: boolean
  readonly framesDecoded: number
  /** Zero while there is silence only. */
  readonly audioEnergy: number
}

/** The path that media takes, as one side sees it. */
export interface Path {
  readonly local: string | undefined
  readonly remote: string | undefined
  readonly relayProtocol: string | undefined
  /** The URL of this side's relay; Firefox does not say. */
  readonly url: string | undefined
}

// The devices of both browsers are never so quiet for a second, nor silence so loud.
const audible = 1e-6
const framesAtLeast = 10
const stillMs = 1000

async function received(page: Page): Promise<Received> {
  return await page.evaluate(async () => {
    // A call that waits has one beside that of the call that is on.
    const open = window.connections.filter((c) => c.connectionState !== 'closed')
    const connected = open.some((c) => c.connectionState === 'connected')
    const sum = { connected, framesDecoded: 0, audioEnergy: 0 }
    const all = await Promise.all(open.map((c) => c.getStats()))
    for (const figures of all.flatMap((stats) => [...stats.values()])) {
      if (figures.type !== 'inbound-rtp') continue
      if (figures.kind === 'video') sum.framesDecoded += figures.framesDecoded ?? 0
      if (figures.kind === 'audio') sum.audioEnergy += figures.totalAudioEnergy ?? 0
    }
    return sum
  })
}

/** Both see and hear each other. */
export async function seeAndHearEachOther(one: Party, other: Party): Promise<void> {
  await Promise.all([seesAndHears(one, other), seesAndHears(other, one)])
}

export async function seesAndHears(party: Party, peer: Pick<Party, 'name'>): Promise<void> {
  await Promise.all([sees(party, peer), hears(party, peer)])
}

/** Frames are decoded, and the picture on the page is neither black nor still. */
export async function sees(party: Party, peer: Pick<Party, 'name'>): Promise<void> {
  const before = await received(party.page)
  await until(
    `${party.name} decodes frames from ${peer.name}, more than ${before.framesDecoded}`,
    () => received(party.page),
    (now) => now.framesDecoded >= before.framesDecoded + framesAtLeast,
  )
  const picture = party.picture(peer.name)
  let first: Uint8Array = new Uint8Array()
  await until(
    `${party.name} has a picture of ${peer.name} that is not black`,
    async () => {
      first = await pixels(picture)
      return brightness(first)
    },
    (light) => light > 16,
  )
  await until(
    `the picture of ${peer.name} that ${party.name} sees moves`,
    async () => difference(first, await pixels(picture)),
    (most) => most > 24,
  )
}

/** Sound comes, and the page plays it. */
export async function hears(party: Party, peer: Pick<Party, 'name'>): Promise<void> {
  const before = await received(party.page)
  await until(
    `${party.name} hears ${peer.name}`,
    () => received(party.page),
    (now) => now.audioEnergy > before.audioEnergy + audible,
  )
  await until(
    `${party.name}'s page plays the sound of ${peer.name}`,
    () =>
      party.sound().evaluate((element) => {
        if (!(element instanceof HTMLMediaElement)) return undefined
        const { muted, paused, volume } = element
        return { muted, paused, volume }
      }),
    (player) => player !== undefined && !player.muted && !player.paused && player.volume > 0,
  )
}

/** For a second no sound comes, though the connection stands. */
export function hearsNothing(party: Party): Promise<void> {
  return standsStill(`${party.name} hears nothing`, party.page, (before, now) => {
    return now.audioEnergy - before.audioEnergy < audible
  })
}

/** For a second no frame comes, though the connection stands. */
export function seesNothing(party: Party): Promise<void> {
  return standsStill(`${party.name} gets no frames`, party.page, (before, now) => {
    return now.framesDecoded === before.framesDecoded
  })
}

/** By which way the media comes. */
export async function path(party: Party): Promise<Path> {
  return await until(
    `${party.name} has a path`,
    () =>
      party.page.evaluate(async () => {
        const open = window.connections.findLast((c) => c.connectionState !== 'closed')
        const report = new Map((await open?.getStats())?.entries())
        const all = [...report.values()]
        const transport = all.find(({ type }) => type === 'transport')
        // Firefox has no selectedCandidatePairId.
        const pair =
          report.get(transport?.selectedCandidatePairId ?? '') ??
          all.find(({ type, selected }) => type === 'candidate-pair' && selected)
        const local = report.get(pair?.localCandidateId ?? '')
        const remote = report.get(pair?.remoteCandidateId ?? '')
        return {
          local: local?.candidateType as string | undefined,
          remote: remote?.candidateType as string | undefined,
          relayProtocol: local?.relayProtocol as string | undefined,
          url: local?.url as string | undefined,
        }
      }),
    ({ local }) => local !== undefined,
  )
}

async function standsStill(
  what: string,
  page: Page,
  still: (before: Received, now: Received) => boolean,
): Promise<void> {
  let before = await received(page)
  let since = performance.now()
  await until(
    what,
    async () => {
      const now = await received(page)
      if (!now.connected || !still(before, now)) {
        before = now
        since = performance.now()
      }
      return { ...now, stillFor: performance.now() - since }
    },
    ({ stillFor }) => stillFor >= stillMs,
  )
}

/** The picture as it is shown, made small: red, green, blue and opacity of each pixel; empty while there is none. */
async function pixels(picture: Locator): Promise<Uint8Array> {
  // As text, because a long list of numbers takes its time through the browsers' protocols.
  const text = await picture.evaluate((video) => {
    const canvas = document.createElement('canvas')
    canvas.width = 32
    canvas.height = 24
    const pen = canvas.getContext('2d', { willReadFrequently: true })
    if (!(video instanceof HTMLVideoElement) || video.videoWidth === 0 || !pen) return ''
    pen.drawImage(video, 0, 0, canvas.width, canvas.height)
    const { data } = pen.getImageData(0, 0, canvas.width, canvas.height)
    return btoa(String.fromCharCode(...data))
  })
  return Buffer.from(text, 'base64')
}

function brightness(colours: Uint8Array): number {
  const light = colours.filter((_, i) => i % 4 !== 3)
  return light.reduce((sum, value) => sum + value, 0) / Math.max(1, light.length)
}

/** How far the pixel that changed most is from what it was. */
function difference(before: Uint8Array, now: Uint8Array): number {
  return now.reduce((most, value, i) => Math.max(most, Math.abs(value - (before[i] ?? value))), 0)
}
