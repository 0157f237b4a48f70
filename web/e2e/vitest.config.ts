import { defineConfig } from 'vitest/config'

// One file after the other: each starts a server and browsers of its own.
export default defineConfig({
  test: {
    environment: 'node',
    include: ['**/*.test.ts'],
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
})
