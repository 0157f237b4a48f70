/** Sound or picture. */
export type Kind = (typeof kinds)[number]
/** Both, in the order of their sections in an offer. */
export const kinds = ['audio', 'video'] as const

/** Which of the two a track is. */
export function kindOf(track: MediaStreamTrack): Kind {
  return track.kind === 'audio' ? 'audio' : 'video'
}
