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

  scene('finds the callee in another call, which goes on', async ({ people }) => {
    const ann = await people.enter('Ann')
    const bob = await people.enter('Bob')
    const cid = await people.enter('Cid')
    await connect(ann, bob)
    await cid.reads('In a call')
    await cid.calls(bob)
    await cid.reads('Bob is in another call.')
    await seeAndHearEachOther(ann, bob)
  })
})

describe('a call whose callee closes the page', () => {
  scene('says that their connection is lost', async ({ people }) => {
    const ann = await people.enter('Ann')
    const bob = await people.enter('Bob')
    await connect(ann, bob)
    await seeAndHearEachOther(ann, bob)
    await bob.page.close()
    await ann.reads('Bob’s connection dropped.')
    await ann.press('Hang up')
    await ann.reads('You hung up.')
  })
})
