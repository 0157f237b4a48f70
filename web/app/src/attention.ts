// What reaches a person who looks elsewhere: the sound and the title of the page.

import { effect } from '@preact/signals'
import type { App } from './model/app.ts'
import type { Ringer } from './sound.ts'
import type { Strings } from './strings/en.ts'

const blinkMs = 1000

/** Rings and blinks as long as the app has something to say. Returns what ends it. */
export function attend(
  app: App,
  ringer: Pick<Ringer, 'play' | 'silence'>,
  page: { title: string },
  t: Strings,
): () => void {
  return effect(() => {
    const place = app.place.value?.name ?? 'Visavis'
    const call = app.call.value
    const name = call?.peer.name ?? ''
    if (!call || app.screen.value === 'home') {
      ringer.silence()
      page.title = place
      return
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
    ringer.play('ring')
    const calls = t.ringing.title(name)
    page.title = calls
    const blink = setInterval(() => {
      page.title = page.title === calls ? place : calls
    }, blinkMs)
    return () => clearInterval(blink)
  })
}
