// The browser's ways to leave: closing the page, and Back.

import { effect } from '@preact/signals'
import type { App } from './model/app.ts'
import type { Strings } from './strings/en.ts'

type Window = Pick<
  typeof globalThis.window,
  'addEventListener' | 'removeEventListener' | 'history' | 'confirm'
>

/**
 * Asks before the page is closed in a call, where the browser allows that; a reload cannot be told from it. Back leads from a
 * person to the list, and in a call asks whether to hang up.
 */
export function leaveWithCare(app: App, window: Window, t: Strings): () => void {
  const inside = () => app.call.value !== undefined || app.home.chosen.value !== undefined
  // Where there is something to come back from, Back finds an entry of ours instead of another page.
  const enter = () => {
    if (inside() && window.history.state !== entry) window.history.pushState(entry, '')
  }
  const back = () => {
    const call = app.call.value
    if (!call) {
      app.home.chosen.value = undefined
      return
    }
    enter()
    if (window.confirm(t.call.leave(call.peer.name))) call.hangup()
  }
  const closing = (event: Event) => {
    if (app.call.value) event.preventDefault()
  }
  const stop = effect(enter)
  window.addEventListener('popstate', back)
  window.addEventListener('beforeunload', closing)
  return () => {
    stop()
    window.removeEventListener('popstate', back)
    window.removeEventListener('beforeunload', closing)
  }
}

const entry = 'inside'
