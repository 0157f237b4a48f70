import { expect, test } from 'vitest'
import { FakeClient } from '../fake.ts'
import { Home } from './home.ts'

const people = [
  { id: 'u1', name: 'Ann', presence: 'online' },
  { id: 'u2', name: 'Zoë Lind', presence: 'busy' },
] as const

test('people are found without regard to case and accents', () => {
  const home = new Home(new FakeClient())
  home.users.value = people
  home.query.value = ' zoe '
  expect(home.found.value.map((u) => u.id)).toEqual(['u2'])
  home.query.value = 'x'
  expect(home.found.value).toEqual([])
})

test('the chosen person is shown, also when they have gone; else the first', () => {
  const home = new Home(new FakeClient())
  home.users.value = people
  expect(home.shown.value?.id).toBe('u1')
  home.chosen.value = people[1]
  expect(home.shown.value).toMatchObject({ id: 'u2', presence: 'busy' })
  home.users.value = []
  expect(home.shown.value).toMatchObject({ id: 'u2', name: 'Zoë Lind', presence: 'offline' })
})

test('calls that cannot be fetched are told, and the old ones stay', async () => {
  const client = new FakeClient()
  const home = new Home(client)
  await home.fetchRecents()
  expect(home.recents.value).toEqual([])
  client.calls = () => Promise.reject(new Error('offline'))
  await home.fetchRecents()
  expect(home.recentsLost.value).toBe(true)
  expect(home.recents.value).toEqual([])
})
