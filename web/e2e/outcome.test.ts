import { describe } from 'vitest'
import { seeAndHearEachOther } from './media.ts'
import { connect } from './person.ts'
import { scene } from './scene.ts'

describe('a call that comes to nothing', () => {
  scene('is declined', async ({ people }) => {
    const ann = await people.enter('Ann')
    const bob = await people.enter('Bob')
    await ann.calls(bob)
    await bob.isRungBy(ann)
    await ann.reads('Ringing…')
    await bob.press('Decline')
    await ann.reads('Bob declined.')
    await bob.reads('You declined.')
    await ann.remembers('Bob', 'Outgoing', 'Declined')
    await bob.remembers('Ann', 'Incoming', 'Declined')
  })

  scene('is canceled by the caller', async ({ people }) => {
    const ann = await people.enter('Ann')
    const bob = await people.enter('Bob')
    await ann.calls(bob)
    await bob.isRungBy(ann)
    await ann.press('Hang up')
    await bob.reads('Ann stopped calling before you answered.')
    await ann.reads('You hung up before Bob answered.')
    await bob.remembers('Ann', 'Incoming', 'Missed')
    await ann.remembers('Bob', 'Outgoing', 'Canceled')
  })

  describe('with a short ring', () => {
    scene.override('flags', ['--call-ring-seconds', '5'])

    scene('is not answered', async ({ people }) => {
      const ann = await people.enter('Ann')
      const bob = await people.enter('Bob')
      await ann.calls(bob)
      await bob.isRungBy(ann)
      await ann.reads('No answer.')
      await bob.reads('You missed a call from Ann.')
      await ann.remembers('Bob', 'Outgoing', 'No answer')
      await bob.remembers('Ann', 'Incoming', 'Missed')
    })
  })

  scene(
    'finds the callee in another call, who does not want to be rung then',
    async ({ people }) => {
      const ann = await people.enter('Ann')
      const bob = await people.enter('Bob')
      const cid = await people.enter('Cid')
      await bob.press('Me')
      await bob.page.getByRole('radio', { name: 'Busy' }).check()
      await bob.press('People')
      await connect(ann, bob)
      await cid.reads('In a call')
      await cid.calls(bob)
      await cid.reads('Bob is busy.')
      await seeAndHearEachOther(ann, bob)
    },
  )

  scene('finds a callee who does not want to be disturbed', async ({ people }) => {
    const ann = await people.enter('Ann')
    const bob = await people.enter('Bob')
    await bob.press('Me')
    await bob.page.getByRole('switch', { name: 'Do not disturb' }).check()
    await ann.calls(bob)
    await ann.reads('Bob is busy.')
    await bob.remembers('Ann', 'Incoming', 'Missed')
  })
})

describe('a call that rings while another is on', () => {
  scene('is accepted, and ends the other', async ({ people }) => {
    const ann = await people.enter('Ann')
    const bob = await people.enter('Bob')
    const cid = await people.enter('Cid')
    await connect(ann, bob)
    await cid.calls(bob)
    await bob.reads('Cid is calling')
    await seeAndHearEachOther(ann, bob)
    await bob.press('End and accept')
    await ann.reads('Bob hung up.')
    await seeAndHearEachOther(cid, bob)
  })

  scene('is declined, and the other goes on', async ({ people }) => {
    const ann = await people.enter('Ann')
    const bob = await people.enter('Bob')
    const cid = await people.enter('Cid')
    await connect(ann, bob)
    await cid.calls(bob)
    await bob.reads('Cid is calling')
    await bob.press('Decline')
    await cid.reads('Bob declined.')
    await seeAndHearEachOther(ann, bob)
  })
})

describe('a call whose callee closes the page', () => {
  scene('says that their page has gone', async ({ people }) => {
    const ann = await people.enter('Ann')
    const bob = await people.enter('Bob')
    await connect(ann, bob)
    await seeAndHearEachOther(ann, bob)
    await bob.page.close()
    await ann.reads(/Bob is reloading the page|Bob may have closed the page/)
    await ann.press('Hang up')
    await ann.reads('You hung up.')
  })
})
