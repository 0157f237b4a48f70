/** The Network Information API, which TypeScript does not know; not in every browser. */
interface NetworkInformation extends EventTarget {
  /** Such as `wifi`; Chromium knows it on phones only. */
  readonly type?: string
}

/**
 * How the network may have changed: `back` says that there was none in between, `other` that it is another one, and
 * `perhaps` that the browser has only a new estimate of how fast it is, which comes with another network, too.
 */
export type NetworkChange = 'back' | 'other' | 'perhaps'

/** Calls `listener` when the browser says that its network may be another one, until it is told to stop. */
export function watchNetwork(listener: (change: NetworkChange) => void): () => void {
  const connection = networkInformation()
  let type = connection?.type
  const online = () => listener('back')
  const estimated = () => {
    const same = connection?.type === type
    type = connection?.type
    listener(same ? 'perhaps' : 'other')
  }
  globalThis.window?.addEventListener('online', online)
  connection?.addEventListener('change', estimated)
  return () => {
    globalThis.window?.removeEventListener('online', online)
    connection?.removeEventListener('change', estimated)
  }
}

// Without a server there is nothing to wait for: addresses are there in milliseconds.
const lookMs = 1000

/** This machine's addresses, as far as the browser shows them to the page, which it does while a device is open. */
export class Addresses {
  #last: Promise<ReadonlySet<string> | undefined> | undefined

  /** Looks a first time, in a browser that tells of new estimates. */
  constructor() {
    if (networkInformation()) this.#last = look()
  }

  /** Whether they are others than at the last look, for certain. */
  async changed(): Promise<boolean> {
    const last = this.#last
    this.#last = look()
    const [before, now] = await Promise.all([last, this.#last])
    if (!before || !now) return false
    return before.size !== now.size || [...now].some((address) => !before.has(address))
  }
}

function networkInformation(): NetworkInformation | undefined {
  const { connection } = (globalThis.navigator ?? {}) as { connection?: NetworkInformation }
  return connection
}

/** The addresses that a connection would use; undefined where the browser hides them. */
async function look(): Promise<ReadonlySet<string> | undefined> {
  const probe = new RTCPeerConnection()
  let timer: ReturnType<typeof setTimeout> | undefined
  try {
    probe.createDataChannel('')
    const complete = new Promise<void>((resolve) => {
      probe.onicegatheringstatechange = () => {
        if (probe.iceGatheringState === 'complete') resolve()
      }
      timer = setTimeout(resolve, lookMs)
    })
    await probe.setLocalDescription()
    await complete
    const sdp = probe.localDescription?.sdp ?? ''
    const hosts = [...sdp.matchAll(/^a=candidate:\S+ \d+ \S+ \d+ (\S+) \d+ typ host/gm)]
    const addresses = hosts.map(([, address = '']) => address)
    // A name in the place of an address is another one for each connection (draft-ietf-mmusic-mdns-ice-candidates).
    const hidden = addresses.length === 0 || addresses.some((address) => address.endsWith('.local'))
    return hidden ? undefined : new Set(addresses)
  } catch {
    return undefined
  } finally {
    clearTimeout(timer)
    probe.close()
  }
}
