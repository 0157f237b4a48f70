import { render } from 'preact'
import { act } from 'preact/test-utils'
import { type Abilities, VisavisError } from 'visavis'
import { afterEach, expect, test, vi } from 'vitest'
import { FakeCall, FakeClient } from '../fake.ts'
import { App } from '../model/app.ts'
import { Settings } from '../settings.ts'
import { en } from '../strings/en.ts'
import { Page } from './page.tsx'
import { rowsAtOnce } from './rows.tsx'

const bob = { id: 'ubo7', name: 'Bob', presence: 'online' } as const

afterEach(() => render(null, document.body))

async function open(able?: Abilities) {
  const client = new FakeClient()
  localStorage.clear()
  sessionStorage.clear()
  const more = able ? { able } : {}
  const app = new App({ client, settings: new Settings(), secure: true, ...more })
  await act(async () => {
    await app.start()
    render(<Page app={app} />, document.body)
  })
  return { client, app }
}

/** The names of the buttons that can be seen, as a person or a screen reader would say them. */
function buttons(): string[] {
  return [...document.querySelectorAll('button')].map(
    (b) => b.getAttribute('aria-label') ?? b.textContent?.trim() ?? '',
  )
}

async function press(name: string) {
  const button = [...document.querySelectorAll('button')].find(
    (b) => (b.getAttribute('aria-label') ?? b.textContent?.trim()) === name,
  )
  expect(button, name).toBeDefined()
  await act(async () => button?.click())
}

test('from the door to a call and back', async () => {
  const { client } = await open()
  const field = document.querySelector('input')
  expect(document.querySelector('label')?.textContent).toBe('Your name')
  expect(document.querySelector('label')?.htmlFor).toBe(field?.id)
  await act(async () => {
    if (!field) return
    field.value = 'Ann'
    field.dispatchEvent(new InputEvent('input', { bubbles: true }))
  })
  await press('Come in')
  expect(document.body.textContent).toContain('Nobody else is here yet')

  await act(async () => client.here(bob))
  expect(buttons().filter((name) => name === 'Call Bob')).toHaveLength(1)
  await press('Call Bob')
  expect(document.querySelector('[role=status].ringing-state')?.textContent).toBe('Calling Bob…')
  expect(buttons()).toEqual(['Hang up'])

  const call = client.call as FakeCall
  await act(async () => call.become('ringing'))
  expect(document.body.textContent).toContain('Ringing…')
  await act(async () => call.become('connected'))
  expect(buttons().slice(-3)).toEqual(['Mute', 'Camera', 'Hang up'])
  const pressed = (name: string) =>
    document.querySelector(`[aria-label="${name}"]`)?.getAttribute('aria-pressed')
  expect([pressed('Mute'), pressed('Camera')]).toEqual(['false', 'true'])
  await press('Mute')
  await act(async () => {
    dispatchEvent(new KeyboardEvent('keydown', { key: 'c' }))
  })
  expect([pressed('Mute'), pressed('Camera')]).toEqual(['true', 'false'])
  await act(async () =>
    call.change({ peerMedia: { audio: true, video: false, connection: 'connected' } }),
  )
  expect(document.body.textContent).toContain('Bob’s camera is off')

  await press('Hang up')
  expect(document.body.textContent).toContain('You hung up.')
  expect(document.body.textContent).toContain('Lasted 1 min')
  await press('Video call again')
  expect(client.rung).toHaveLength(2)
})

test('a ring can be accepted, taken by voice only, declined or ignored', async () => {
  const { client, app } = await open()
  await act(() => app.enter('Ann'))
  const call = new FakeCall('in', bob)
  await act(async () => client.rings(call))
  expect(document.querySelector('h1')?.textContent).toBe('Bob')
  expect(buttons()).toEqual(['Decline', 'Voice only', 'Accept', 'Ignore'])
  await press('Decline')
  expect(call.acts).toEqual(['decline'])
  expect(document.body.textContent).toContain('You declined.')

  const voice = new FakeCall('in', bob, { video: false })
  await act(async () => client.rings(voice))
  expect(buttons()).toEqual(['Decline', 'Accept', 'Ignore'])
  await press('Accept')
  expect(voice.acts).toEqual(['accept voice'])
})

test('what they say is heard from the accept on, before the page is drawn', async () => {
  const { client, app } = await open()
  await act(() => app.enter('Ann'))
  const call = new FakeCall('in', bob)
  await act(async () => client.rings(call))
  call.remoteAudio.getTracks = () => [{ kind: 'audio' } as MediaStreamTrack]
  await act(async () => call.change({}))
  const sound = () => document.querySelector('audio')?.muted
  expect(sound()).toBe(true)
  call.become('connecting')
  expect(sound()).toBe(false)
})

test('a call that waits lies over the one that is on, and is reached by keyboard', async () => {
  const { client, app } = await open()
  await act(() => app.enter('Ann'))
  await act(async () => {
    client.here(bob)
    app.ring(bob, true)
    ;(client.call as FakeCall).become('connected')
  })
  const first = client.call as FakeCall
  const carla = new FakeCall('in', { id: 'uca1', name: 'Carla' }, { waiting: true })
  await act(async () => client.rings(carla))
  expect(document.querySelector('h1')?.textContent).toBe('Bob')
  const card = document.querySelector('section[aria-label="Carla is calling"]')
  expect(card?.querySelector('[role=alert]')?.textContent).toBe('Carla is calling')
  expect(buttons().slice(-5)).toEqual(['Decline', 'End and accept', 'Mute', 'Camera', 'Hang up'])

  const decline = card?.querySelector('button')
  decline?.focus()
  await press('Decline')
  expect(carla.acts).toEqual(['decline'])
  expect(document.querySelector('section[aria-label="Carla is calling"]')).toBeNull()
  expect(document.activeElement).toBe(document.querySelector('h1'))
  expect(first.acts).toEqual([])

  const again = new FakeCall('in', { id: 'uca1', name: 'Carla' }, { waiting: true })
  await act(async () => client.rings(again))
  await press('End and accept')
  expect(first.acts).toEqual(['hangup'])
  expect(document.querySelector('h1')?.textContent).toBe('Carla')
  expect(buttons().slice(-3)).toEqual(['Mute', 'Camera', 'Hang up'])
})

test('one device is told that accepting ends the call on another', async () => {
  const { client, app } = await open()
  await act(() => app.enter('Ann'))
  await act(async () => client.rings(new FakeCall('in', bob, { waiting: true })))
  expect(document.body.textContent).toContain('Accepting this one ends it.')
  expect(buttons()).toEqual(['Decline', 'Voice only', 'Accept', 'Ignore'])
})

test('what is the matter with two devices folds into what it comes to', async () => {
  const { client, app } = await open()
  await act(() => app.enter('Ann'))
  const call = new FakeCall('out', bob)
  client.nextCall = call
  await act(async () => app.ring(bob, true))
  await act(async () => call.become('connected'))
  const card = () => document.querySelector('.device-trouble .floating')
  await act(async () =>
    call.change({ micOn: true, cameraOn: false, problems: [{ kind: 'video', cause: 'busy' }] }),
  )
  expect(card()?.getAttribute('data-folded')).toBe('false')
  expect(buttons()).not.toContain(en.devices.effect.neither)
  await act(async () =>
    call.change({
      micOn: false,
      problems: [
        { kind: 'audio', cause: 'denied' },
        { kind: 'video', cause: 'busy' },
      ],
    }),
  )
  expect(card()?.getAttribute('data-folded')).toBe('true')
  await press('Nobody sees or hears you.')
  expect(card()?.getAttribute('data-folded')).toBe('false')
  expect(document.querySelector('[aria-expanded]')?.getAttribute('aria-expanded')).toBe('true')
  await press('Dismiss')
  expect(card()).toBeNull()
})

test('a call that is over and the list of calls speak of its length alike', async () => {
  const { client, app } = await open()
  await act(() => app.enter('Ann'))
  const call = new FakeCall('out', bob)
  client.nextCall = call
  client.records = [
    {
      id: 'n1-1',
      peer: bob,
      direction: 'out',
      video: true,
      rungAt: new Date(),
      acceptedAt: new Date(),
      endedAt: new Date(),
      reason: 'hungup',
      durationMs: 9900,
      missed: false,
    },
  ]
  await act(async () => app.ring(bob, true))
  await act(async () => call.become('connected'))
  await act(async () => call.finish('hungup', 'peer', 9900))
  await press('Recents')
  expect(document.querySelector('.after-long')?.textContent).toBe('Lasted 9 sec')
  expect(document.querySelector('.record-what')?.textContent).toBe('9 sec')
})

test('the list of calls says that some are missing', async () => {
  const { client, app } = await open()
  client.incomplete = true
  await act(() => app.enter('Ann'))
  await press('Recents')
  expect(document.querySelector('.list-note')?.textContent).toBe(en.home.recentsIncomplete)
  expect(document.body.textContent).not.toContain(en.home.noRecents)
  client.incomplete = false
  await act(() => app.home.fetchRecents())
  expect(document.querySelector('.list-note')).toBeNull()
  expect(document.body.textContent).toContain(en.home.noRecents)
})

test('a call of a moment ago is not of another day where this device’s clock is off', async () => {
  const { client, app } = await open()
  const at = new Date(Date.now() - 26 * 3600_000) // this device is a day ahead
  const peer = { id: 'uca1', name: 'Carla' }
  const call = { peer, direction: 'in', video: true, acceptedAt: at, missed: false } as const
  const end = { endedAt: at, reason: 'hungup', durationMs: 9900 } as const
  client.calls = async () => ({
    calls: [{ id: 'n1-1', rungAt: at, ...call, ...end }],
    incomplete: false,
    at,
  })
  await act(() => app.enter('Ann'))
  await press('Recents')
  expect(document.querySelector('.record-when')?.textContent).toMatch(/^\d+:\d\d/)
})

test('who does not want to be disturbed sees so among the people, and can end it there', async () => {
  const { client, app } = await open()
  await act(() => app.enter('Ann'))
  await press('Me')
  const choice = (label: string) =>
    [...document.querySelectorAll('label')].find((l) => l.textContent === label)
  const field = (label: string) =>
    document.getElementById(choice(label)?.htmlFor ?? '') as HTMLInputElement
  expect(document.querySelector('legend')?.textContent).toBe('When I am in a call')
  expect(field('Let it ring softly').checked).toBe(true)
  await act(async () => field('Busy').click())
  expect(client.prefers.whenBusy).toBe('busy')
  expect(field('Do not disturb').getAttribute('role')).toBe('switch')
  await act(async () => field('Do not disturb').click())
  expect(client.prefers.doNotDisturb).toBe(true)

  for (const section of ['Recents', 'People']) {
    await press(section)
    expect(document.body.textContent).toContain('Do not disturb is on.')
  }
  await press('Turn off')
  expect(client.prefers).toEqual({ whenBusy: 'busy', doNotDisturb: false })
  expect(document.body.textContent).not.toContain('Do not disturb is on.')
})

test('signing out everywhere is asked first, and says when it fails', async () => {
  const { client, app } = await open()
  await act(() => app.enter('Ann'))
  await press('Me')
  const asked = vi.fn(() => false)
  vi.stubGlobal('confirm', asked)
  client.refusals = [new VisavisError('unavailable', 'later')]
  await press('Sign out everywhere')
  expect(asked).toHaveBeenCalledWith(en.me.signOutAsk)
  expect(client.refusals).toHaveLength(1)
  asked.mockReturnValue(true)
  await press('Sign out everywhere')
  await vi.waitFor(() => expect(document.body.textContent).toContain(en.me.signOutFailed))
  await press('Sign out everywhere')
  await vi.waitFor(() => expect(app.screen.value).toBe('door'))
  expect(document.body.textContent).not.toContain(en.refusals.signed_out)
  await act(() => app.enter('Ann'))
  await act(async () => client.become('refused', new VisavisError('signed_out', 'Signed out.')))
  expect(document.body.textContent).toContain(en.refusals.signed_out)
  vi.unstubAllGlobals()
})

test('a device is rung while the page is closed, or the page says why not', async () => {
  const { client, app } = await open()
  await act(() => app.enter('Ann'))
  await press('Me')
  expect(client.push.looks).toBe(1)
  const field = document.getElementById('me-push') as HTMLInputElement
  const hint = () => document.getElementById('me-push-hint')?.textContent
  expect(field.labels?.[0]?.textContent).toBe('Ring this device when the page is closed')
  expect([field.checked, field.disabled, hint()]).toEqual([false, true, en.me.pushFirstCall])
  const at = new Date()
  const call = { direction: 'out', video: true, missed: false, acceptedAt: undefined } as const
  const end = { rungAt: at, endedAt: at, reason: 'unanswered', durationMs: 0 } as const
  client.records = [{ id: 'n1-1', peer: { id: 'ubo', name: 'Bob' }, ...call, ...end }]
  await act(() => app.home.fetchRecents())
  expect([field.checked, field.disabled, hint()]).toEqual([false, false, en.me.pushHint])
  await act(async () => field.click())
  expect(field.checked).toBe(true)
  await act(async () => client.push.answer(new VisavisError('not_allowed', 'No.')))
  await vi.waitFor(() => expect([field.checked, hint()]).toEqual([false, en.me.pushNotAllowed]))
  await act(async () => field.click())
  await act(async () => client.push.answer())
  await vi.waitFor(() => expect(client.push.state).toBe('on'))
  expect([field.checked, hint()]).toEqual([true, en.me.pushHint])
  await act(async () => client.push.become('blocked'))
  expect([field.checked, field.disabled, hint()]).toEqual([false, true, en.me.pushBlocked])
})

test('who is not here any more stands among the people, and can be called', async () => {
  const { client, app } = await open()
  const rungAt = new Date()
  const call = { direction: 'in', video: true, acceptedAt: rungAt, missed: false } as const
  const end = { endedAt: rungAt, reason: 'hungup', durationMs: 9900 } as const
  client.records = [{ id: 'n1-1', peer: { id: 'uca1', name: 'Carla' }, rungAt, ...call, ...end }]
  await act(() => app.enter('Ann'))
  const row = () => document.querySelector('.rows .row')
  expect(row()?.textContent).toContain('CarlaOffline')
  expect(document.body.textContent).not.toContain('Nobody else is here yet')
  await press('Call Carla')
  expect(client.rung).toEqual(['uca1 video'])
})

/** Does to the page what the translator of a browser does: each text stands in an element of its own. */
function translate(root: Element = document.body): void {
  for (const node of [...root.childNodes]) {
    if (node instanceof Element) {
      translate(node)
    } else if (node.textContent?.trim()) {
      const font = document.createElement('font')
      font.textContent = `»${node.textContent}«`
      node.replaceWith(font)
    }
  }
}

test('what changes is seen on a page that the browser has translated', async () => {
  const { client, app } = await open()
  const seen = () => document.body.textContent ?? ''
  translate()
  client.refusals.push(new VisavisError('name_taken', 'taken'))
  await act(() => app.enter('Ann'))
  expect(seen()).toContain(en.refusals.name_taken)
  await act(() => app.enter('Ann'))
  await act(async () => client.here(bob))
  translate()
  await act(async () => client.here({ ...bob, presence: 'busy' }))
  expect(document.querySelector('.row-more')?.textContent).toBe('In a call')
  expect(document.querySelector('.person-presence')?.textContent).toBe('In a call')
  await act(async () => app.ring(bob, true))
  translate()
  await act(async () => (client.call as FakeCall).become('ringing'))
  expect(document.querySelector('.ringing-state')?.textContent).toBe('Ringing…')
  const call = client.call as FakeCall
  await act(async () => call.become('connecting'))
  expect(document.querySelector('.tile-words')?.textContent).toBe('Connecting…')
  translate()
  call.peerMedia = { audio: true, video: false, connection: 'connected' }
  await act(async () => call.become('connected'))
  expect(document.querySelector('.tile-words')?.textContent).toBe('Bob’s camera is off')
  await act(async () => call.finish('hungup', 'peer', 1000))
  expect(seen()).toContain('Bob hung up.')
})

test('what the other person is asked to allow is said instead of that it is off', async () => {
  const { client, app } = await open()
  await act(() => app.enter('Ann'))
  await act(async () => client.here(bob))
  await act(async () => app.ring(bob, true))
  const call = client.call as FakeCall
  await act(async () => call.become('connecting'))
  const off = { audio: false, video: false, connection: 'connected' } as const
  call.peerMedia = { ...off, asking: 'both' }
  await act(async () => call.become('connected'))
  const seen = () => document.body.textContent
  expect(seen()).toContain('Bob is asked to allow camera and microphone.')
  expect(seen()).not.toContain('are off')
  await act(async () => call.change({ peerMedia: { ...off, video: true, asking: 'audio' } }))
  expect(seen()).toContain('Bob is asked to allow the microphone.')
  expect(seen()).not.toContain(en.call.muted('Bob'))
  await act(async () => call.change({ peerMedia: { ...off, video: true } }))
  expect(seen()).not.toContain('is asked to allow')
  expect(seen()).toContain(en.call.muted('Bob'))
})

test('single letters do nothing once they are switched off', async () => {
  const { client, app } = await open()
  await act(() => app.enter('Ann'))
  await press('Me')
  const field = document.getElementById('me-shortcuts') as HTMLInputElement
  expect(field.checked).toBe(true)
  await act(async () => field.click())
  await act(async () => client.here(bob))
  await act(async () => app.ring(bob, true))
  await act(async () => (client.call as FakeCall).become('connected'))
  await act(async () => {
    dispatchEvent(new KeyboardEvent('keydown', { key: 'm' }))
  })
  const mute = document.querySelector('[aria-label="Mute"]')
  expect(mute?.getAttribute('aria-pressed')).toBe('false')
  expect(mute?.hasAttribute('aria-keyshortcuts')).toBe(false)
  expect(mute?.getAttribute('title')).toBe('Mute')
})

test('a long list is one Tab stop, drawn as far as it is seen, and walked with the arrow keys', async () => {
  const { client, app } = await open()
  await act(() => app.enter('Ann'))
  const many = Array.from({ length: 60 }, (_, i) => ({
    id: `u${i}`,
    name: `Person ${String(i).padStart(3, '0')}`,
    presence: 'online' as const,
  }))
  await act(async () => client.here(...many))
  const rows = () => [...document.querySelectorAll('.rows .row')]
  const stops = () =>
    [...document.querySelectorAll<HTMLButtonElement>('.rows button')].filter(
      (b) => b.tabIndex === 0,
    )
  expect(rows()).toHaveLength(rowsAtOnce)
  expect(stops().map((b) => b.className)).toEqual(['row-main'])

  stops()[0]?.focus()
  const strike = (key: string) =>
    act(async () => {
      const event = new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true })
      document.activeElement?.dispatchEvent(event)
      await new Promise((resolve) => requestAnimationFrame(() => resolve(undefined)))
    })
  const focused = () =>
    document.activeElement?.getAttribute('aria-label') ??
    document.activeElement?.querySelector('.row-name')?.textContent
  await strike('ArrowDown')
  expect(focused()).toBe('Person 001')
  await strike('ArrowRight')
  expect(focused()).toBe('Voice call Person 001')
  await strike('ArrowRight')
  await strike('ArrowDown')
  expect(focused()).toBe('Call Person 002')
  expect(stops()).toEqual([document.activeElement])
  await strike('Home')
  expect(focused()).toBe('Call Person 000')
  await strike('End')
  expect(focused()).toBe('Call Person 059')
  expect(rows()).toHaveLength(60)
})

test('a browser that cannot make calls says so at the door, and nobody comes in', async () => {
  localStorage.clear()
  const { client } = await open({ calls: false, devices: false })
  expect(document.body.textContent).toContain(en.door.noCalls)
  expect(document.querySelector('input')).toBeNull()
  expect(buttons()).toEqual(['Copy link'])
  expect(client.state).toBe('idle')
})

test('a browser inside another app says where to open the page, and lets people in', async () => {
  const { client } = await open({ calls: true, devices: false })
  expect(document.body.textContent).toContain(en.door.noDevices)
  expect(document.querySelector('.address')?.textContent).toBe(location.origin)
  expect(buttons()).toEqual(['Come in', 'Copy link'])
  expect(client.state).toBe('idle')
})

test('a page that may make no sound says so at home and where it rings', async () => {
  const { client, app } = await open()
  await act(() => app.enter('Ann'))
  expect(buttons()).not.toContain('Allow sound')
  await act(async () => {
    app.silent.value = true
  })
  expect(buttons()).toContain('Allow sound')
  await act(async () => client.rings(new FakeCall('in', bob)))
  expect(buttons()).toContain(en.ringing.silent)
})

test('a person may hide their network address', async () => {
  const { client, app } = await open()
  await act(() => app.enter('Ann'))
  await press('Me')
  const field = document.getElementById('me-relay') as HTMLInputElement
  expect(field.labels?.[0]?.textContent).toBe('Hide my network address')
  expect(field.checked).toBe(false)
  const strangers = document.getElementById('me-strangers') as HTMLInputElement
  expect(strangers.labels?.[0]?.textContent).toBe('Hide it from people who are new to me')
  expect([client.relayStrangers, strangers.checked, strangers.disabled]).toEqual([
    true,
    true,
    false,
  ])
  await act(async () => strangers.click())
  expect([client.relayStrangers, strangers.checked]).toEqual([false, false])
  await act(async () => field.click())
  expect([client.alwaysRelay, field.checked]).toEqual([true, true])
  expect([strangers.checked, strangers.disabled]).toEqual([true, true]) // from them, too
})

test('what a search finds is announced, and presence greys while I am offline', async () => {
  const { client, app } = await open()
  await act(() => app.enter('Ann'))
  await act(async () => client.here(bob, { id: 'uca1', name: 'Carla', presence: 'online' }))
  await act(async () => {
    app.home.query.value = 'b'
  })
  const told = () =>
    [...document.querySelectorAll('.list [role=status]')].map((e) => e.textContent).join('')
  expect(told()).toBe('1 found')
  await act(async () => {
    app.home.query.value = 'x'
  })
  expect(told()).toBe(en.home.notFound('x'))
  const connected = () => document.querySelector('.home')?.getAttribute('data-connected')
  expect(connected()).toBe('true')
  await act(async () => client.become('offline'))
  expect(connected()).toBe('false')
})
