import { type ReadonlySignal, signal } from '@preact/signals'

/** Takes a picture of the person from their own camera, or gives nothing where it was not allowed before. */
export type OpenPreview = () => Promise<MediaStream | undefined>

/** The person's own picture while a call rings, before they have accepted it. */
export class Preview {
  readonly #stream = signal<MediaStream | undefined>(undefined)

  get stream(): ReadonlySignal<MediaStream | undefined> {
    return this.#stream
  }

  /** Shows what `open` gives, unless it is not `wanted` any more by then. */
  async show(open: OpenPreview, wanted: () => boolean): Promise<void> {
    const stream = await open().catch(() => undefined)
    if (wanted()) this.#stream.value = stream
    else stopTracks(stream)
  }

  /** Ends the preview and hands its tracks over. */
  take(): readonly MediaStreamTrack[] {
    const tracks = this.#stream.value?.getTracks() ?? []
    this.#stream.value = undefined
    return tracks
  }

  /** Ends the preview and its capture. */
  stop(): void {
    stopTracks(this.#stream.value)
    this.#stream.value = undefined
  }
}

function stopTracks(stream: MediaStream | undefined): void {
  for (const track of stream?.getTracks() ?? []) track.stop()
}
