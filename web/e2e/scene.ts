import { test } from 'vitest'
import { Browsers } from './browsers.ts'
import { ForeignSite } from './foreign.ts'
import { People } from './people.ts'
import { Server } from './server.ts'

/**
 * A test with a server of its own, started with `flags`, which may go to the ports of `reaches`, and people who open its page. At the end it fails if a page or the
 * server did what it must not: an error on the console, a request to elsewhere, a panic.
 */
export const scene = test
  // biome-ignore lint/correctness/noEmptyPattern: Vitest reads there what a fixture needs.
  .extend('browsers', { scope: 'worker' }, ({}, { onCleanup }) => {
    const browsers = new Browsers()
    onCleanup(() => browsers.disconnect())
    return browsers
  })
  // biome-ignore lint/correctness/noEmptyPattern: Vitest reads there what a fixture needs.
  .extend('foreign', { scope: 'worker' }, async ({}, { onCleanup }) => {
    const foreign = await ForeignSite.start()
    onCleanup(() => foreign.stop())
    return foreign
  })
  .extend('flags', [] as readonly string[])
  .extend('address', '127.0.0.1:0')
  .extend('reaches', [] as readonly number[])
  // Whatever went wrong is kept until all is cleared away: an error in between would leave the rest standing.
  // biome-ignore lint/correctness/noEmptyPattern: Vitest reads there what a fixture needs.
  .extend('wrong', ({}, { onCleanup }) => {
    const wrong: string[] = []
    onCleanup(() => {
      if (wrong.length > 0) throw new Error(wrong.join('\n'))
    })
    return wrong
  })
  .extend('server', async ({ flags, address, reaches, wrong }, { onCleanup }) => {
    const server = await Server.start(flags, address, reaches)
    onCleanup(async () => {
      wrong.push(...(await server.stop()))
    })
    return server
  })
  .extend('people', async ({ browsers, foreign, server, wrong, task }, { onCleanup }) => {
    const people = new People(browsers, server, foreign)
    onCleanup(async () => {
      if (task.result?.state === 'fail') await people.keepPictures(task.name)
      wrong.push(...(await people.leave()))
    })
    return people
  })
