/** What this browser lets a page do. */
export interface Abilities {
  /** It has WebRTC: without it there are no calls at all. */
  readonly calls: boolean
  /** It can give the page a camera and a microphone. The browsers inside other apps often cannot. */
  readonly devices: boolean
}

/** What this browser lets this page do, whatever the person allows. */
export function abilities(): Abilities {
  const { RTCPeerConnection, navigator } = globalThis as Partial<typeof globalThis>
  const devices: Partial<MediaDevices> | undefined = navigator?.mediaDevices
  return {
    calls: typeof RTCPeerConnection === 'function',
    devices: typeof devices?.getUserMedia === 'function',
  }
}
