import { effect } from '@preact/signals'
import { render } from 'preact'
import { abilities, openCamera, Visavis } from 'visavis'
import { attend } from './attention.ts'
import { holdDevice } from './device.ts'
import { wantsHomeScreen } from './home-screen.ts'
import { leaveWithCare } from './leaving.ts'
import { App } from './model/app.ts'
import { outside } from './outside.ts'
import { Settings } from './settings.ts'
import { Ringer } from './sound.ts'
import { t } from './strings/pick.ts'
import { Page } from './view/page.tsx'
import { workerAddress } from './worker-address.ts'

const app = new App({
  client: new Visavis({ worker: workerAddress(window) }),
  settings: new Settings(),
  secure: window.isSecureContext,
  able: abilities(),
  wantsHomeScreen: wantsHomeScreen({
    userAgent: navigator.userAgent,
    maxTouchPoints: navigator.maxTouchPoints,
    standalone: matchMedia('(display-mode: standalone)').matches,
  }),
  preview: openCamera,
  restart: () => location.reload(),
})
document.documentElement.lang = t.language
addEventListener('storage', () => app.choices.read())
addEventListener('focus', () => app.push.look())
const ringer = new Ringer()
ringer.listen()
effect(() => {
  app.silent.value = ringer.silent.value
})
attend(app, ringer, document, t, outside)
leaveWithCare(app, window, t)
const { wakeLock, mediaSession } = navigator
holdDevice(app, { document, wakeLock, mediaSession }, t)
const root = document.getElementById('app')
if (root) render(<Page app={app} />, root)
void app.start()
