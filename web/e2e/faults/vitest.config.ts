import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'
import base from '../vitest.config.ts'

const e2e = fileURLToPath(new URL('..', import.meta.url))

export default defineConfig({
  test: {
    ...base.test,
    root: e2e,
    include: ['faults/*.test.ts'],
    exclude: [],
    globalSetup: ['faults/setup.ts'],
    testTimeout: 900_000,
  },
})
