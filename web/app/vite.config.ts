import { defaultClientConditions, defineConfig } from 'vite'

// The page is served under a Content-Security-Policy of 'self' only: everything is a hashed file,
// nothing is inlined into the HTML or turned into a data: address.
export default defineConfig({
  resolve: { conditions: ['visavis:source', ...defaultClientConditions] },
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: {
    // web.go embeds dist and expects the page in dist/site; dist itself stays, with its placeholder.
    outDir: 'dist/site',
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: false,
    target: 'baseline-widely-available',
  },
})
