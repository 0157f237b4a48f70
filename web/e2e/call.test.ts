import { describe, expect } from 'vitest'
import {
  hears,
  hearsNothing,
  path,
  seeAndHearEachOther,
  sees,
  seesAndHears,
  seesNothing,
} from './media.ts'
import { connect } from './person.ts'
import { scene } from './scene.ts'
import { until } from './until.ts'

describe('two people in Chromium', () => {
  scene('call each other, both ways', async ({ people }) => {
    const ann = await people.enter('Ann')
    await ann.reads('Nobody else is here yet')
    const bob = await people.enter('Bob')
    await bob.button('Call Ann').waitFor()
    await connect(ann, bob)
    await seeAndHearEachOther(ann, bob)
    // Bob does not know Ann, and shows her no address of his.
    expect(await path(bob)).toMatchObject({ local: 'relay' })

    await bob.press('Hang up')
    await bob.reads('You hung up.')
    await ann.reads('Bob hung up.')
    await ann.remembers('Bob', 'Outgoing', /\d+ (sec|min)/)
    await bob.remembers('Ann', 'Incoming', /\d+ (sec|min)/)

    await ann.press('People')
    await bob.press('People')
    await connect(bob, ann)
    await seeAndHearEachOther(ann, bob)
    // Neighbours who know each other need no relay.
    for (const party of [ann, bob]) {
      await until(
        `${party.name}'s path is direct`,
        () => path(party),
        ({ local, remote }) => local !== 'relay' && remote !== 'relay',
      )
    }
    await bob.press('Hang up')
    await bob.reads('You hung up.')
    await ann.reads('Bob hung up.')
    await ann.remembers('Bob', 'Incoming')
    await bob.remembers('Ann', 'Outgoing')
  })

  scene('play nothing before it is accepted, though a caller sends', async ({ people }) => {
    const ann = await people.enter('Ann')
    const bob = await people.enter('Bob')
    // Only people who know each other are connected while it rings.
    await connect(ann, bob)
    await ann.press('Hang up')
    await bob.reads('Ann hung up.')
    await ann.press('People')
    await bob.press('People')
    await ann.calls(bob)
    await bob.isRungBy(ann)
    await bob.sound().waitFor({ state: 'attached' })
    // As no page of ours does.
    await ann.page.evaluate(async () => {
      const [track = null] = (
        await navigator.mediaDevices.getUserMedia({ audio: true })
      ).getTracks()
      const [audio] = window.connections.at(-1)?.getTransceivers() ?? []
      await audio?.sender.replaceTrack(track)
    })
    const soundOf = async () => ({
      comes: await bob.page.evaluate(() =>
        (window.connections.at(-1)?.getReceivers() ?? []).some(
          ({ track }) => track.kind === 'audio' && !track.muted,
        ),
      ),
      muted: await bob.sound().evaluate((element) => (element as HTMLMediaElement).muted),
    })
    await until('sound comes', soundOf, ({ comes }) => comes)
    expect((await soundOf()).muted).toBe(true)
    await bob.press('Accept')
    await seeAndHearEachOther(ann, bob)
  })

  scene('mute, and are heard again', async ({ people }) => {
    const ann = await people.enter('Ann')
    const bob = await people.enter('Bob')
    await connect(ann, bob)
    await seeAndHearEachOther(ann, bob)

    await ann.press('Mute')
    await bob.reads('Ann’s microphone is off')
    await hearsNothing(bob)
    await hears(ann, bob)
    await ann.press('Mute')
    await bob.readsNoMore('Ann’s microphone is off')
    await hears(bob, ann)
  })

  scene('turn the camera off and on', async ({ people }) => {
    const ann = await people.enter('Ann')
    const bob = await people.enter('Bob')
    await connect(ann, bob)
    await seeAndHearEachOther(ann, bob)

    await bob.press('Camera')
    await ann.reads('Bob’s camera is off')
    await seesNothing(ann)
    await hears(ann, bob)
    await bob.press('Camera')
    await ann.readsNoMore('Bob’s camera is off')
    await sees(ann, bob)
  })
  scene('talk without pictures, until one turns the camera on', async ({ people }) => {
    const ann = await people.enter('Ann')
    const bob = await people.enter('Bob')
    await ann.press('Voice')
    await bob.isRungBy(ann)
    await bob.reads('Visavis voice call')
    await bob.press('Accept')
    await Promise.all([hears(ann, bob), hears(bob, ann), seesNothing(ann), seesNothing(bob)])
    await ann.press('Camera')
    await seesAndHears(bob, ann)
    await seesNothing(ann)
  })

  scene('talk in the window where it was accepted, the others fall silent', async ({ people }) => {
    const ann = await people.enter('Ann')
    const bob = await people.enter('Bob')
    const window = await people.openAgain(bob)
    await ann.calls(bob)
    await bob.isRungBy(ann)
    await window.accepts(ann)
    await bob.reads('Answered in another tab.')
    await seeAndHearEachOther(ann, window)
  })
})

scene('nobody gets in under the name of another', async ({ people }) => {
  await people.enter('Ann')
  const other = await people.come('ann')
  await other.knocks()
  await other.reads(
    'Somebody here has that name already, or one that looks like it. Add your family name or a letter.',
  )
})
