import { render } from 'preact'
import { openCamera, Visavis } from 'visavis'
import { attend } from './attention.ts'
import { App } from './model/app.ts'
import { browserStorage, Settings } from './settings.ts'
import { Ringer } from './sound.ts'
import { t } from './strings/pick.ts'
import { Page } from './view/page.tsx'

const app = new App({
  client: new Visavis(),
  settings: new Settings(browserStorage('localStorage'), browserStorage('sessionStorage')),
  secure: window.isSecureContext,
  preview: openCamera,
  restart: () => location.reload(),
})
document.documentElement.lang = t.language
addEventListener('storage', () => app.readPrefers())
attend(app, new Ringer(), document, t)
const root = document.getElementById('app')
if (root) render(<Page app={app} />, root)
void app.start()
