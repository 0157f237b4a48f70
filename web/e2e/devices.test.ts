import { describe } from 'vitest'
import { hears, seeAndHearEachOther, seesAndHears, seesNothing } from './media.ts'
import { connect } from './person.ts'
import { scene } from './scene.ts'

describe('a call goes on with what there is', () => {
  scene('without camera and microphone', async ({ people }) => {
    const devices = { audio: 'NotFoundError', video: 'NotFoundError' }
    const ann = await people.enter('Ann')
    const bob = await people.enter('Bob', { devices })
    await connect(ann, bob)
    await bob.reads('No camera and no microphone were found.')
    await bob.reads('Ann can neither see nor hear you.')
    await seesAndHears(bob, ann)
    await ann.reads('Bob’s camera and microphone are off')
  })

  scene('when the browser gives neither', async ({ people }) => {
    const devices = { audio: 'NotAllowedError', video: 'NotAllowedError' }
    const ann = await people.enter('Ann', { devices })
    const bob = await people.enter('Bob')
    await ann.calls(bob)
    await ann.reads('Your browser does not give this page your camera and microphone.')
    await bob.accepts(ann)
    await seesAndHears(ann, bob)
    await bob.reads('Ann’s camera and microphone are off')
  })

  scene('when another program has the camera', async ({ people }) => {
    const ann = await people.enter('Ann', { devices: { video: 'NotReadableError' } })
    const bob = await people.enter('Bob')
    await connect(ann, bob)
    await ann.reads('Your camera is used by another program.')
    await ann.reads('Bob hears you but cannot see you.')
    await seesAndHears(ann, bob)
    await hears(bob, ann)
    await seesNothing(bob)
    await bob.reads('Ann’s camera is off')
  })

  scene('when nobody has any', async ({ people }) => {
    const devices = { audio: 'NotFoundError', video: 'NotFoundError' }
    const ann = await people.enter('Ann', { devices })
    const bob = await people.enter('Bob', { devices })
    await connect(ann, bob)
    await ann.reads('Bob’s camera and microphone are off')
    await bob.reads('Ann’s camera and microphone are off')
    await ann.press('Hang up')
    await bob.reads('Ann hung up.')
  })
})

scene('a camera that is let go can be turned on in the call', async ({ people }) => {
  const ann = await people.enter('Ann', { devices: { video: 'NotReadableError' } })
  const bob = await people.enter('Bob')
  await connect(ann, bob)
  await bob.reads('Ann’s camera is off')
  await ann.getsDevices()
  await ann.press('Camera')
  await seeAndHearEachOther(ann, bob)
  await ann.readsNoMore('Your camera is used by another program.')
})
