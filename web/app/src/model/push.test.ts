import { VisavisError } from 'visavis'
import { expect, test } from 'vitest'
import { FakePush } from '../fake.ts'
import { PushModel } from './push.ts'

test('the switch answers before the browser does', async () => {
  const push = new FakePush()
  const model = new PushModel(push)
  const turned = model.turn(true)
  expect([model.on.value, model.turning.value, model.state.value]).toEqual([true, true, 'off'])
  void model.turn(false)
  push.answer()
  await turned
  expect([model.on.value, model.turning.value, model.state.value]).toEqual([true, false, 'on'])
  await model.turn(false)
  expect([model.on.value, model.state.value]).toEqual([false, 'off'])
})

test('a switch that was turned in vain goes back, and says why until it is tried again', async () => {
  const push = new FakePush()
  const model = new PushModel(push)
  const turned = model.turn(true)
  push.become('blocked')
  push.answer(new VisavisError('not_allowed', 'No.'))
  await turned
  expect([model.on.value, model.state.value]).toEqual([false, 'blocked'])
  expect(model.refusal.value).toEqual({ code: 'not_allowed', message: 'No' })
  void model.turn(true)
  expect(model.refusal.value).toBeUndefined()
})
