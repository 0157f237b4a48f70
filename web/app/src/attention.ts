// What reaches a person who looks elsewhere: the sound and the title of the page.

import { effect } from '@preact/signals'
import type { App } from './model/app.ts'
import type { Ringer } from './sound.ts'
import type { Strings } from './strings/en.ts'

const blinkMs = 1000

/** What the browser shows of a page that is not looked at. */
export interface Outside {
  /** The number on the page's icon; 0 takes it away. */
  badge(count: number): void
  /** Shows a notification, and returns what takes it away. */
  notify(title: string, body: string, tag: string): () => void
}

/** Rings and blinks as long as the app has something to say. Returns what ends it. */
export function attend(
  app: App,
  ringer: Pick<Ringer, 'play' | 'silence'>,
  page: { title: string; readonly hidden?: boolean },
  t: Strings,
  outside?: Outside,
): () => void {
  const stops = [
    ring(app, ringer, page, t),
    effect(() => outside?.badge(app.home.unseen.value)),
    effect(() => {
      const call = app.call.value
      const rings = call?.direction === 'in' && call.state.value === 'ringing'
      // Where the worker rings, it notifies, too.
      if (!call || !rings || call.answered.value || app.push.state.peek() === 'on') return
      if (!page.hidden) return
      const place = app.placeName.peek()
      const body = call.video.peek() ? t.ringing.video(place) : t.ringing.voice(place)
      return outside?.notify(t.ringing.title(call.peer.name), body, `${call.peer.id} rings`)
    }),
  ]
  return () => {
    for (const stop of stops) stop()
  }
}

function ring(
  app: App,
  ringer: Pick<Ringer, 'play' | 'silence'>,
  page: { title: string },
  t: Strings,
): () => void {
  return effect(() => {
    const missed = app.home.unseen.value
    const called = app.placeName.value
    const place = missed > 0 ? `(${missed}) ${called}` : called
    const call = app.call.value
    const name = call?.peer.name ?? ''
    const returning = app.returning.value
    if (returning && !call) {
      page.title = t.call.with(returning.name)
      return
    }
    if (!call || app.screen.value === 'home') {
      ringer.silence()
      page.title = place
      return
    }
    const blink = (calls: string, other: string) => {
      page.title = calls
      const blinking = setInterval(() => {
        page.title = page.title === calls ? other : calls
      }, blinkMs)
      return () => clearInterval(blinking)
    }
    const waiting = app.waiting.value
    if (waiting && !waiting.answered.value) {
      ringer.play('waiting')
      return blink(t.ringing.title(waiting.peer.name), t.call.with(name))
    }
    const state = call.state.value
    if (app.screen.value === 'call' || call.answered.value) {
      ringer.silence()
      page.title = t.call.with(name)
      return
    }
    if (call.direction === 'out') {
      if (state === 'ringing') ringer.play('ringback')
      page.title = t.ringing.calling(name)
      return
    }
    ringer.play(call.elsewhere.value ? 'waiting' : 'ring')
    return blink(t.ringing.title(name), place)
  })
}
