/** What a page can know of where it was opened. */
interface Opened {
  readonly userAgent: string
  readonly maxTouchPoints: number
  /** Opened from the home screen, without the browser's bars. */
  readonly standalone: boolean
}

/** Whether this browser rings a closed page only for one that is on the home screen, and this one is not: iPhone and iPad. */
export function wantsHomeScreen({ userAgent, maxTouchPoints, standalone }: Opened): boolean {
  if (standalone) return false
  // An iPad says that it is a Mac, which has no touch screen.
  const pad = /Macintosh/u.test(userAgent) && maxTouchPoints > 1
  return pad || /iPhone|iPad|iPod/u.test(userAgent)
}
