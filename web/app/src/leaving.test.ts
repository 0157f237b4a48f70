import { expect, test, vi } from 'vitest'
import { FakeCall, FakeClient } from './fake.ts'
import { leaveWithCare } from './leaving.ts'
import { App } from './model/app.ts'
import { Settings } from './settings.ts'
import { en } from './strings/en.ts'

class FakeWindow extends EventTarget {
  readonly confirm = vi.fn(() => false)
  /** The states of its entries, the present one last. */
  readonly entries: unknown[] = [null]
  readonly history: History

  constructor() {
    super()
    const { entries } = this
    this.history = {
      get state() {
        return entries.at(-1)
      },
      pushState: (state: unknown) => entries.push(state),
    } as unknown as History
  }

  back(): void {
    this.entries.pop()
    this.dispatchEvent(new Event('popstate'))
  }

  /** Whether the browser would ask. */
  closes(): boolean {
    return !this.dispatchEvent(new Event('beforeunload', { cancelable: true }))
  }
}

async function make() {
  const client = new FakeClient()
  const app = new App({ client, settings: Settings.ofThisVisit(), secure: true })
  const window = new FakeWindow()
  leaveWithCare(app, window, en)
  await app.start()
  await app.enter('Ann')
  return { client, app, window }
}

const bob = { id: 'ubo7', name: 'Bob' }

test('Back leads from a person to the list, and from there away', async () => {
  const { app, window } = await make()
  expect(window.entries).toHaveLength(1)
  app.home.chosen.value = bob
  expect(window.entries).toHaveLength(2)
  window.back()
  expect(app.home.chosen.value).toBeUndefined()
  expect(window.entries).toHaveLength(1)
  expect(window.confirm).not.toHaveBeenCalled()
})

test('in a call Back asks, and hangs up only for one who says so', async () => {
  const { client, window } = await make()
  expect(window.closes()).toBe(false)
  const call = new FakeCall('in', bob)
  client.rings(call)
  call.accept()
  const hangup = vi.spyOn(call, 'hangup')
  expect(window.closes()).toBe(true)
  window.back()
  expect(window.confirm).toHaveBeenLastCalledWith('Hang up on Bob?')
  expect(hangup).not.toHaveBeenCalled()
  window.confirm.mockReturnValue(true)
  window.back()
  expect(hangup).toHaveBeenCalledOnce()
})
