import type { Browser, CDPSession, Page, Worker } from 'playwright-core'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { launchFirefox } from './browsers.ts'
import { seeAndHearEachOther } from './media.ts'
import { connect, type Person } from './person.ts'
import { PushService } from './pushservice.ts'
import { scene } from './scene.ts'
import type { Server } from './server.ts'
import { PushKeys } from './unseal.ts'
import { until } from './until.ts'

describe('a device whose page is closed', async () => {
  const service = await PushService.start()
  scene.override('flags', ['--push-services', service.origin])
  scene.override('reaches', [service.port])
  afterAll(() => service.stop())

  describe('in Firefox', () => {
    let firefox: Browser
    beforeAll(async () => {
      firefox = await launchFirefox(service.firefoxPreferences)
    })
    afterAll(() => firefox.close())

    scene('rings, and shows what became of the call', async ({ people, server }) => {
      const ann = await people.enter('Ann')
      const bob = await people.enter('Bob', { browser: firefox })
      await haveTalked(ann, bob)
      await turnsOn(bob)
      const blank = await openBlank(bob)
      await bob.page.close()

      await ann.reads('Offline')
      await ann.calls(bob)
      await ann.reads('Ringing…')
      await until(
        'it rings',
        () => titles(blank, server),
        ([title, ...more]) => title === 'Ann is calling' && more.length === 0,
      )
      await ann.press('Hang up')
      await until(
        'the missed call takes the place of the ring',
        () => titles(blank, server),
        ([title, ...more]) => title === 'Missed call from Ann' && more.length === 0,
      )
    })

    scene('is pushed nothing while its page is seen', async ({ people }) => {
      const ann = await people.enter('Ann')
      const bob = await people.enter('Bob', { browser: firefox })
      await haveTalked(ann, bob)
      const pushed = () => service.pushed
      await bob.page.evaluate(() => {
        Object.defineProperty(document, 'visibilityState', { value: 'visible', writable: true })
      })
      await turnsOn(bob)
      const before = pushed()
      await ann.calls(bob)
      await bob.isRungBy(ann)
      await ann.press('Hang up')
      await bob.reads('Ann stopped calling before you answered.')
      expect(pushed()).toBe(before)

      await bob.page.evaluate(() => {
        Object.assign(document, { visibilityState: 'hidden' })
        document.dispatchEvent(new Event('visibilitychange'))
      })
      await ann.calls(bob)
      await bob.isRungBy(ann)
      await until('the device of the page that is hidden rings', pushed, (now) => now > before)
      await ann.press('Hang up')
      await until('and hears what became of it', pushed, (now) => now > before + 1)
    })

    scene('is not rung once its person has left', async ({ people }) => {
      const ann = await people.enter('Ann')
      const bob = await people.enter('Bob', { browser: firefox })
      await haveTalked(ann, bob)
      await turnsOn(bob)
      await bob.press('Leave')
      await until(
        'the browser has unsubscribed',
        () => service.channels,
        (channels) => channels === 0,
      )
      await ann.reads('Offline')
      await ann.calls(bob)
      await ann.reads('Bob could not be reached.')
    })
  })

  describe('in Chromium', () => {
    scene(
      'makes no noise where a page can be seen, and declines where none is',
      async ({ people, server }) => {
        people.forgive(...noVendor)
        const ann = await people.enter('Ann')
        const bob = await people.enter('Bob')
        await haveTalked(ann, bob)
        const device = await Device.subscribe(bob, server, service)
        await haveTalked(ann, bob)
        await device.isPushed(2)
        expect(await device.titles()).toEqual([])

        await bob.page.goto('about:blank')
        await ann.reads('Offline')
        await ann.calls(bob)
        await ann.reads('Ringing…')
        await device.shows('Ann is calling')
        await device.clicks('decline')
        await ann.reads('Bob declined.')
        await device.shows()
      },
    )

    scene('answers by a click in a page that nobody sees', async ({ people, server }) => {
      people.forgive(...noVendor)
      const ann = await people.enter('Ann')
      const bob = await people.enter('Bob')
      await haveTalked(ann, bob)
      const device = await Device.subscribe(bob, server, service)
      await device.seesNoPage()
      await ann.calls(bob)
      await bob.isRungBy(ann)
      await device.shows('Ann is calling')
      await device.clicks()
      await seeAndHearEachOther(ann, bob)
    })

    scene('answers by a click that opens the page', async ({ people, server }) => {
      people.forgive(...noVendor)
      const ann = await people.enter('Ann')
      const bob = await people.enter('Bob')
      await haveTalked(ann, bob)
      const device = await Device.subscribe(bob, server, service)
      await bob.page.goto('about:blank')
      await ann.reads('Offline')
      await ann.calls(bob)
      await ann.reads('Ringing…')
      await Promise.all([device.clicks(), bob.page.goto(server.origin)])
      await seeAndHearEachOther(ann, bob)
    })
  })
})

/** What a Chromium says that has no push service to go to. */
const noVendor = [/Push API in incognito mode/]

/** Both know each other from a call: only devices of people who were in one ring, and for nobody else. */
async function haveTalked(caller: Person, callee: Person): Promise<void> {
  await connect(caller, callee)
  await callee.press('Hang up')
  await caller.reads(`${callee.name} hung up.`)
}

/** Turns the switch on, until the server knows of the device. */
async function turnsOn(person: Person): Promise<void> {
  await person.press('Me')
  const { page } = person
  await Promise.all([
    page.waitForResponse((answer) => answer.request().method() === 'PUT' && answer.ok()),
    person.ringsWhenClosed().click(),
  ])
}

/** A window of the page's origin that is none of ours, so that it keeps nothing from being shown, and can look at it. */
async function openBlank({ page }: Person): Promise<Page> {
  const [blank] = await Promise.all([
    page.context().waitForEvent('page'),
    page.evaluate(() => {
      window.open('about:blank')
    }),
  ])
  return blank
}

/** The titles of the notifications that stand. */
async function titles(page: Page, server: Server): Promise<string[]> {
  return await page.evaluate(async (scope) => {
    const registration = await navigator.serviceWorker.getRegistration(scope)
    return ((await registration?.getNotifications()) ?? []).map(({ title }) => title)
  }, server.origin)
}

/** A service worker's own global, as far as a test needs it. */
interface WorkerGlobal {
  readonly registration: { getNotifications(): Promise<Notification[]> }
  readonly clients: {
    matchAll(): Promise<object[]>
    openWindow: () => Promise<object | undefined>
  }
  readonly WindowClient: { readonly prototype: object }
  readonly NotificationEvent: new (type: string, init: object) => Event
  dispatchEvent(event: Event): void
}

/**
 * A Chromium that is pushed to. It has no push service but its maker's, so the test takes what is pushed, as the device
 * would, and hands it to the worker.
 */
class Device {
  readonly #worker: Worker
  #handed = 0

  private constructor(worker: Worker) {
    this.#worker = worker
  }

  /** Has somebody try the switch, which starts the worker but finds no push service, and then subscribes in its stead. */
  static async subscribe(person: Person, server: Server, service: PushService): Promise<Device> {
    const { page } = person
    const context = page.context()
    await context.grantPermissions(['notifications'])
    const started = context.waitForEvent('serviceworker')
    await person.press('Me')
    await person.ringsWhenClosed().click()
    await person.reads('The push service of your browser’s maker does not answer.')
    await person.press('People')
    const device = new Device(await started)

    const cdp = await context.newCDPSession(await context.newPage())
    const registrationId = await registered(cdp)
    const keys = new PushKeys()
    const endpoint = service.open(async ({ body }) => {
      const data = keys.unseal(body)
      await cdp.send('ServiceWorker.deliverPushMessage', {
        origin: server.origin,
        registrationId,
        data,
      })
      device.#handed++
    })
    const token = await page.evaluate(
      (origin) => localStorage.getItem(`visavis.token ${origin}`),
      server.origin,
    )
    const put = await fetch(`${server.origin}/v1/push`, {
      method: 'PUT',
      headers: { Authorization: `Bearer ${token}` },
      body: JSON.stringify({ endpoint, keys, doNotDisturb: false }),
    })
    expect(put.status).toBe(204)
    return device
  }

  /** The worker was handed so many messages by now. */
  async isPushed(times: number): Promise<void> {
    await until(
      `${times} messages were pushed`,
      () => this.#handed,
      (handed) => handed >= times,
    )
  }

  /** Notifications of these titles stand, and no others. */
  async shows(...wanted: readonly string[]): Promise<void> {
    await until(
      `the notifications that stand are: ${wanted.join()}`,
      () => this.titles(),
      (now) => now.join() === wanted.join(),
    )
  }

  /** The titles of the notifications that stand. */
  async titles(): Promise<string[]> {
    return await this.#worker.evaluate(async () => {
      const { registration } = self as unknown as WorkerGlobal
      return (await registration.getNotifications()).map(({ title }) => title)
    })
  }

  /** A headless Chromium calls all its pages visible: from now on its worker sees none. */
  async seesNoPage(): Promise<void> {
    await this.#worker.evaluate(() => {
      const { WindowClient } = self as unknown as WorkerGlobal
      Object.defineProperty(WindowClient.prototype, 'visibilityState', { value: 'hidden' })
    })
  }

  /**
   * Somebody clicks the notification, or one of its buttons. The browser does not know that: it lets the worker bring no
   * page to the front, and open none, which the test does in its stead.
   */
  async clicks(action = ''): Promise<void> {
    await this.#worker.evaluate(async (action) => {
      const { registration, clients, WindowClient, NotificationEvent, dispatchEvent } =
        self as unknown as WorkerGlobal
      Object.defineProperty(WindowClient.prototype, 'focus', {
        async value() {
          return this
        },
      })
      clients.openWindow = async () => {
        for (;;) {
          const [page] = await clients.matchAll()
          if (page) return page
          await new Promise((resolve) => setTimeout(resolve, 1))
        }
      }
      const [notification] = await registration.getNotifications()
      const click = new NotificationEvent('notificationclick', { notification, action })
      Object.defineProperty(click, 'waitUntil', { value: () => undefined })
      dispatchEvent(click)
    }, action)
  }
}

/** The id of the only worker's registration. */
async function registered(cdp: CDPSession): Promise<string> {
  const told = new Promise<string>((resolve) => {
    cdp.on('ServiceWorker.workerRegistrationUpdated', ({ registrations: [first] }) => {
      if (first) resolve(first.registrationId)
    })
  })
  await cdp.send('ServiceWorker.enable')
  return await told
}
