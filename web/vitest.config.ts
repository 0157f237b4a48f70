import { defaultClientConditions } from 'vite'
import { defineConfig } from 'vitest/config'

const conditions = ['visavis:source', ...defaultClientConditions]
const resolve = { conditions }
const ssr = { resolve: { conditions } }

export default defineConfig({
  test: {
    projects: [
      {
        resolve,
        ssr,
        test: {
          name: 'sdk',
          root: 'sdk',
          environment: 'node',
          include: ['src/**/*.test.ts'],
        },
      },
      {
        resolve,
        ssr,
        oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
        test: {
          name: 'app',
          root: 'app',
          environment: 'happy-dom',
          include: ['src/**/*.test.{ts,tsx}'],
        },
      },
    ],
  },
})
