// What a call asks of the device besides camera and microphone: to stay awake, and its keys for calls.

import { effect } from '@preact/signals'
import type { App } from './model/app.ts'
import type { Strings } from './strings/en.ts'

/** What browsers have of it; no types are the same everywhere. */
export interface DeviceScope {
  readonly document: Pick<Document, 'visibilityState' | 'addEventListener' | 'removeEventListener'>
  readonly wakeLock?: { request(type: 'screen'): Promise<{ release(): Promise<void> }> } | undefined
  readonly mediaSession?: MediaSessionOfCalls | undefined
}

interface MediaSessionOfCalls {
  metadata: unknown
  setActionHandler(action: never, handler: (() => void) | null): void
  setMicrophoneActive?(active: boolean): void
  setCameraActive?(active: boolean): void
}

/** Keeps the screen on in a call, and takes the keys of headsets and of the system's own controls. Returns what ends it. */
export function holdDevice(app: App, scope: DeviceScope, t: Strings): () => void {
  const stops = [effect(() => stayAwake(app, scope)), effect(() => takeKeys(app, scope, t))]
  return () => {
    for (const stop of stops) stop()
  }
}

function stayAwake(app: App, { document, wakeLock }: DeviceScope): (() => void) | undefined {
  if (!wakeLock || app.screen.value !== 'call') return undefined
  let over = false
  let held: { release(): Promise<void> } | undefined
  const hold = async () => {
    if (over || document.visibilityState !== 'visible') return
    // Refused on a low battery: then the screen goes off.
    const lock = await wakeLock.request('screen').catch(() => undefined)
    if (over) void lock?.release().catch(() => undefined)
    else held = lock
  }
  // The browser takes it away while the page is hidden.
  const again = () => void hold()
  document.addEventListener('visibilitychange', again)
  void hold()
  return () => {
    over = true
    document.removeEventListener('visibilitychange', again)
    void held?.release().catch(() => undefined)
  }
}

const actions = ['hangup', 'togglemicrophone', 'togglecamera'] as const

function takeKeys(app: App, { mediaSession }: DeviceScope, t: Strings): (() => void) | undefined {
  const call = app.call.value
  if (!mediaSession || !call || app.screen.value !== 'call') return undefined
  const handle = (action: (typeof actions)[number], handler: (() => void) | null) => {
    try {
      mediaSession.setActionHandler(action as never, handler)
    } catch {
      // A browser that does not know the action.
    }
  }
  const title = t.call.with(call.peer.name)
  mediaSession.metadata = 'MediaMetadata' in globalThis ? new MediaMetadata({ title }) : null
  handle('hangup', () => call.hangup())
  handle('togglemicrophone', () => call.toggleAudio())
  handle('togglecamera', () => call.toggleVideo())
  const follow = effect(() => {
    const { audio, video } = call.devices.shown.value
    mediaSession.setMicrophoneActive?.(audio)
    mediaSession.setCameraActive?.(video)
  })
  return () => {
    follow()
    mediaSession.metadata = null
    for (const action of actions) handle(action, null)
  }
}
