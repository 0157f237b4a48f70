import { type Kind, kindOf } from './kinds.ts'

/** The other party's tracks, through all the connections that a call takes. */
export class Remote {
  /** For one element that plays both. */
  readonly both = new MediaStream()
  /** For an element each. */
  readonly only: Readonly<Record<Kind, MediaStream>> = {
    audio: new MediaStream(),
    video: new MediaStream(),
  }

  /**
   * Takes a track, which is another's from then on in whose place it comes: that is when something comes by it, so that the
   * last picture stays till then. The first is there at once; but not its picture beside the sound, for Chromium's video
   * element plays no sound while it waits for a picture. `changed` is called each time, `over` says that it is too late.
   */
  add(track: MediaStreamTrack, over: () => boolean, changed: () => void): void {
    const kind = kindOf(track)
    const own = this.only[kind]
    const first = own.getTracks().length === 0
    const waits = first ? [this.both] : [this.both, own]
    if (!track.muted || (first && kind === 'audio')) {
      put(track, own, this.both)
    } else {
      if (first) put(track, own)
      track.onunmute = () => {
        track.onunmute = null
        if (over()) return
        put(track, ...waits)
        changed()
      }
    }
    changed()
  }
}

/** Puts a track into streams, in the place of those of its kind. */
function put(track: MediaStreamTrack, ...streams: readonly MediaStream[]): void {
  for (const stream of streams) {
    // First: an element whose stream has nothing left has come to its end.
    stream.addTrack(track)
    for (const each of stream.getTracks()) {
      if (each !== track && each.kind === track.kind) stream.removeTrack(each)
    }
  }
}
