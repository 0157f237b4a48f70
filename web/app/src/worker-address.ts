import type { ScriptAddress } from 'visavis'

declare global {
  interface Window {
    /** Not in every browser. */
    readonly trustedTypes?: TrustedTypes
  }
}

interface TrustedTypes {
  createPolicy(
    name: string,
    rules: { createScriptURL(): string },
  ): { createScriptURL(input: string): ScriptAddress }
}

const address = '/worker.js'

/**
 * Where the service worker is, as a page needs it that takes no script from an address made of text (Trusted Types): the
 * server's policy names this one maker of addresses, which makes this one. Call it once.
 */
export function workerAddress(page: Pick<Window, 'trustedTypes'>): ScriptAddress {
  try {
    const rules = { createScriptURL: () => address }
    return page.trustedTypes?.createPolicy('visavis-worker', rules).createScriptURL('') ?? address
  } catch {
    // Another server's policy may not know it: then the browser refuses the worker, and calls go on without.
    return address
  }
}
