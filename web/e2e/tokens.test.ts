import { scene } from './scene.ts'

scene('whoever signs out everywhere is signed out in every window', async ({ people }) => {
  people.forgive(/asks: Sign out on all devices/)
  const ann = await people.enter('Ann')
  const other = await people.openAgain(ann)
  await ann.press('Me')
  ann.page.once('dialog', (dialog) => void dialog.accept())
  await ann.press('Sign out everywhere')
  await other.reads('You were signed out on another page or device.')
  await ann.enters()
  await ann.page.reload()
  await ann.isHome()
  await other.page.reload()
  await other.isHome()
})

scene(
  'a server that begins anew has forgotten a guest, who notices nothing',
  async ({ people, server }) => {
    people.forgive(/WebSocket connection to .* failed/, /net::ERR_CONNECTION_REFUSED/)
    const ann = await people.enter('Ann')
    const windows = [ann, await people.openAgain(ann)]
    await server.kill()
    for (const window of windows) await window.reads('Connection lost. Trying again…')
    await server.restart()
    for (const window of windows) {
      await window.readsNoMore('Connection lost. Trying again…')
      await window.isHome()
    }
    const bob = await people.enter('Bob')
    await bob.calls(ann)
    for (const window of windows) await window.isRungBy(bob)
  },
)
