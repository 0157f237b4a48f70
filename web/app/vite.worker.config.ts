import { defaultClientConditions, defineConfig } from 'vite'

// The service worker is a file of its own, under a name that stays: a browser looks there for the next one.
export default defineConfig({
  resolve: { conditions: ['visavis:source', ...defaultClientConditions] },
  publicDir: false,
  build: {
    outDir: 'dist/site',
    emptyOutDir: false,
    modulePreload: false,
    sourcemap: false,
    target: 'baseline-widely-available',
    rolldownOptions: {
      input: 'src/worker.ts',
      output: { format: 'iife', entryFileNames: 'worker.js' },
    },
  },
})
