import { expect, test } from 'vitest'
import { workerAddress } from './worker-address.ts'

test('a browser without Trusted Types takes the address as it is', () => {
  expect(workerAddress({})).toBe('/worker.js')
})

test('one with them gets one that can be nothing else', () => {
  const made: unknown[] = []
  const createPolicy = (name: string, rules: { createScriptURL(input?: string): string }) => {
    made.push(name, rules.createScriptURL('https://evil/'))
    return { createScriptURL: () => ({ toString: () => 'trusted' }) }
  }
  expect(String(workerAddress({ trustedTypes: { createPolicy } }))).toBe('trusted')
  expect(made).toEqual(['visavis-worker', '/worker.js'])
})

test('a page whose policy forbids that goes on', () => {
  const createPolicy = () => {
    throw new TypeError('Policy "visavis-worker" disallowed.')
  }
  expect(workerAddress({ trustedTypes: { createPolicy } })).toBe('/worker.js')
})
