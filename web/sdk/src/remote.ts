import { type Kind, kindOf } from './kinds.ts'

/** The other party's tracks, through all the connections that a call takes. */
export class Remote {
  /** For one element that plays both. */
  readonly both = new MediaStream()
  /** For two elements, one for each kind. */
  readonly single: Readonly<Record<Kind, MediaStream>> = {
    audio: new MediaStream(),
    video: new MediaStream(),
  }

  /**
   * Adds a track. It replaces the one before it once it receives something, so that the last picture stays until then.
   * The first track of a kind is added at once. A first picture joins {@link both} only when it receives something:
   * Chromium's video element plays no sound while it waits for a picture. `changed` is called after each change. `closed`
   * returns whether the track's connection is closed, so that the track is not wanted any more.
   */
  add(track: MediaStreamTrack, closed: () => boolean, changed: () => void): void {
    const kind = kindOf(track)
    const own = this.single[kind]
    const first = own.getTracks().length === 0
    const waits = first ? [this.both] : [this.both, own]
    if (!track.muted || (first && kind === 'audio')) {
      put(track, own, this.both)
    } else {
      if (first) put(track, own)
      track.onunmute = () => {
        track.onunmute = null
        if (closed()) return
        put(track, ...waits)
        changed()
      }
    }
    changed()
  }
}

/** Adds a track to streams and removes the others of its kind. */
function put(track: MediaStreamTrack, ...streams: readonly MediaStream[]): void {
  for (const stream of streams) {
    // Add first: an element ends when its stream has no track.
    stream.addTrack(track)
    for (const each of stream.getTracks()) {
      if (each !== track && each.kind === track.kind) stream.removeTrack(each)
    }
  }
}
