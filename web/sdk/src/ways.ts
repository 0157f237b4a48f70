// Which way media takes when the best one carries none.

/** From the best to the one that passes most firewalls: any, the relay alone, the relay by TCP alone, by TLS alone. */
export const ways = ['any', 'relay', 'tcp', 'tls'] as const
export type Way = (typeof ways)[number]

// A search that found a path, by which nothing came, may have met a bad moment; a second one has not. What is more
// cautious than the direct path is tried once each.
const patience: Readonly<Record<Way, number>> = { any: 2, relay: 1, tcp: 1, tls: 1 }

/**
 * Chooses the way that media takes. ICE only knows that STUN passes, and there are firewalls that let it through and drop
 * media (RFC 7983: a first byte of 128–191), so the choice is made by what came.
 */
export class Ways {
  readonly #policy: RTCIceTransportPolicy
  #way: Way
  #vain = 0

  /** Begins with what worked on this network, if anything is known of it. */
  constructor(policy: RTCIceTransportPolicy, worked: Way | undefined) {
    this.#policy = policy
    this.#way = worked ?? 'any'
  }

  get way(): Way {
    return this.#way
  }

  get policy(): RTCIceTransportPolicy {
    return this.#way === 'any' ? this.#policy : 'relay'
  }

  /** Those of the call's servers that the way uses; all of them where none of them is one of its. */
  servers(all: readonly RTCIceServer[]): readonly RTCIceServer[] {
    const used = all.flatMap((server) => {
      const urls = [server.urls].flat().filter((url) => belongs(url, this.#way))
      return urls.length > 0 ? [{ ...server, urls }] : []
    })
    return this.#way === 'any' || used.length === 0 ? all : used
  }

  /** A path was found, and nothing came by it; says whether the way is another one from now on. */
  vain(all: readonly RTCIceServer[]): boolean {
    this.#vain++
    if (this.#vain < patience[this.#way]) return false
    this.#vain = 0
    const before = this.#way
    this.#way = this.#next(all)
    return this.#way !== before
  }

  /** Media came. */
  works(): void {
    this.#vain = 0
  }

  /** The network is another one, of which nothing is known. */
  reset(): void {
    this.#vain = 0
    this.#way = 'any'
  }

  /** The next way that these servers have; after the last one comes the first. */
  #next(all: readonly RTCIceServer[]): Way {
    const urls = all.flatMap((server) => [server.urls].flat())
    const after = ways.slice(ways.indexOf(this.#way) + 1)
    const possible = (way: Way) =>
      // Who always relays has done so all the while.
      !(way === 'relay' && this.#policy === 'relay') && urls.some((url) => belongs(url, way))
    return after.find(possible) ?? 'any'
  }
}

function belongs(url: string, way: Way): boolean {
  switch (way) {
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
