/** How long anything may take that nobody should wait for: generous, for two slow cores. */
export const patienceMs = 45_000

/** Asks until the answer pleases and gives it back; fails with the last one when the time is over. */
export async function until<T>(
  what: string,
  ask: () => T | Promise<T>,
  pleases: (answer: T) => boolean,
  withinMs = patienceMs,
  pauseMs = 100,
): Promise<T> {
  const end = performance.now() + withinMs
  for (;;) {
    const answer = await ask()
    if (pleases(answer)) return answer
    if (performance.now() > end) {
      throw new Error(`not in ${withinMs} ms: ${what}; last seen: ${JSON.stringify(answer)}`)
    }
    await new Promise((resolve) => setTimeout(resolve, pauseMs))
  }
}
