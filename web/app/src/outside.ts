// What the browser shows of a page that nobody looks at, where it can and may.

import type { Outside } from './attention.ts'

/** Not in every browser, whatever the types say. */
type Badged = Partial<Pick<Navigator, 'setAppBadge' | 'clearAppBadge'>>

export const outside: Outside = {
  badge(count) {
    const navigator: Badged = globalThis.navigator
    // It is refused where the page is not installed.
    const done = count > 0 ? navigator.setAppBadge?.(count) : navigator.clearAppBadge?.()
    done?.catch(() => undefined)
  },

  notify(title, body, tag) {
    if (!('Notification' in globalThis) || Notification.permission !== 'granted') {
      return () => undefined
    }
    try {
      const shown = new Notification(title, { body, tag, icon: '/icon-192.png' })
      shown.onclick = () => {
        window.focus()
        shown.close()
      }
      return () => shown.close()
    } catch {
      // Chrome on Android shows those of a worker only.
      return () => undefined
    }
  },
}
