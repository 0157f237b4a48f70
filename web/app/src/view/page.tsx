import './tokens.css'
import './base.css'
import { useEffect } from 'preact/hooks'
import type { App } from '../model/app.ts'
import { Door, Opening } from './door.tsx'
import { Home } from './home.tsx'
import { Returning } from './returning.tsx'
import { Stage } from './stage.tsx'

/** The whole page. */
export function Page({ app }: { app: App }) {
  const screen = app.screen.value
  const call = app.call.value

  // The focus goes where the new screen begins, so that keyboard and screen reader are not left behind.
  useEffect(() => {
    document.querySelector<HTMLElement>('[data-focus]')?.focus({ preventScroll: true })
  }, [screen, call])

  switch (screen) {
    case 'opening':
      return <Opening app={app} />
    case 'returning':
      return app.returning.value ? <Returning peer={app.returning.value} /> : null
    case 'door':
      return <Door app={app} />
    case 'home':
      return <Home app={app} />
    case 'ringing':
    case 'call':
      return call ? <Stage key={call} app={app} call={call} /> : null
    default:
      screen satisfies never
      return null
  }
}
