import { defineConfig } from 'vitest/config'

// One test after the other: two cores have enough to do with two browsers and the media of one call.
export default defineConfig({
  test: {
    environment: 'node',
    include: ['**/*.test.ts'],
    globalSetup: ['browsers.ts'],
    fileParallelism: false,
    isolate: false,
    testTimeout: 240_000,
    hookTimeout: 60_000,
    reporters: ['verbose'],
  },
})
