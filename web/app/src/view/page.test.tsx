import { render } from 'preact'
import { act } from 'preact/test-utils'
import { afterEach, expect, test } from 'vitest'
import { FakeCall, FakeClient } from '../fake.ts'
import { App } from '../model/app.ts'
import { Settings } from '../settings.ts'
import { Page } from './page.tsx'

const bob = { id: 'ubo7', name: 'Bob', presence: 'online' } as const

afterEach(() => render(null, document.body))

async function open() {
  const client = new FakeClient()
  const app = new App({ client, settings: new Settings(undefined), secure: true })
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
  expect(document.body.textContent).toContain('Lasted 1:01')
  await press('Call again')
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
