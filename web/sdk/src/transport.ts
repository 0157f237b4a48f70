/**
 * What media may go over, from the best to the one that passes most firewalls: any path, the relay only, the relay over TCP
 * only, the relay over TLS only.
 */
export const transports = ['any', 'relay', 'tcp', 'tls'] as const
export type Transport = (typeof transports)[number]

// One search that found a path without media may have met a bad moment, a second one has not. The later transports get
// one search each.
const maxFailures: Readonly<Record<Transport, number>> = { any: 2, relay: 1, tcp: 1, tls: 1 }

/**
 * Falls back to the next transport when no media is received over the one in use. ICE proves only that STUN passes. Some
 * firewalls let STUN through and drop media (RFC 7983: a first byte of 128–191), so received media decides.
 */
export class TransportFallback {
  readonly #policy: RTCIceTransportPolicy
  #transport: Transport
  #failures = 0

  /** Begins with the transport that worked on this network, if one is known. */
  constructor(policy: RTCIceTransportPolicy, worked: Transport | undefined) {
    this.#policy = policy
    this.#transport = worked ?? 'any'
  }

  get transport(): Transport {
    return this.#transport
  }

  get policy(): RTCIceTransportPolicy {
    return this.#transport === 'any' ? this.#policy : 'relay'
  }

  /** Those of the call's servers that the transport uses; all of them if it uses none. */
  servers(all: readonly RTCIceServer[]): readonly RTCIceServer[] {
    const used = all.flatMap((server) => {
      const urls = [server.urls].flat().filter((url) => uses(url, this.#transport))
      return urls.length > 0 ? [{ ...server, urls }] : []
    })
    return this.#transport === 'any' || used.length === 0 ? all : used
  }

  /** ICE found a path, and no media was received over it. Returns whether the transport is another one from now on. */
  failed(all: readonly RTCIceServer[]): boolean {
    this.#failures++
    if (this.#failures < maxFailures[this.#transport]) return false
    this.#failures = 0
    const before = this.#transport
    this.#transport = this.#next(all)
    return this.#transport !== before
  }

  /** Media was received. */
  succeeded(): void {
    this.#failures = 0
  }

  /** The network is another one: nothing is known of it. */
  reset(): void {
    this.#failures = 0
    this.#transport = 'any'
  }

  /** The next transport that these servers offer; after the last one comes the first. */
  #next(all: readonly RTCIceServer[]): Transport {
    const urls = all.flatMap((server) => [server.urls].flat())
    const after = transports.slice(transports.indexOf(this.#transport) + 1)
    const possible = (transport: Transport) =>
      // With the policy `relay` the first transport was the relay already.
      !(transport === 'relay' && this.#policy === 'relay') &&
      urls.some((url) => uses(url, transport))
    return after.find(possible) ?? 'any'
  }
}

function uses(url: string, transport: Transport): boolean {
  switch (transport) {
    case 'any':
      return true
    case 'relay':
      return url.startsWith('turn')
    case 'tcp':
      return url.startsWith('turn') && url.endsWith('transport=tcp')
    case 'tls':
      return url.startsWith('turns:')
  }
}
