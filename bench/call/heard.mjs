// When sound was first heard, which pages cannot tell: what a receiver knows of its last packet is as old as the page is busy,
// and a packet that a muted element plays counts for it, too. So Chromium's own trace is asked, of what is mixed each 10 ms.

// `webrtc` has the mixing, `blink.user_timing` the marks that the pages make.
export const categories = ['webrtc', 'blink.user_timing']

/** How long after the click on Accept each of the two heard the other one, in ms, from the traces of their browsers. */
export function heard(traces, { clicked }) {
  const events = traces.flatMap((trace) => JSON.parse(trace).traceEvents).toSorted((a, b) => a.ts - b.ts)
  const mark = (name) => events.find((event) => event.cat === 'blink.user_timing' && event.name === name)
  const accept = mark('click Accept')
  const of = (pid) => {
    const here = events.filter((event) => event.pid === pid && event.ts > accept.ts)
    const came = here.find(({ name }) => name === 'NetEqImpl::InsertPacket')
    const first = here.find(
      ({ name, ts, args }) =>
        name === 'ChannelReceive::GetAudioFrameWithInfo' &&
        ts > came?.ts &&
        !args.muted && // there is something to play
        args.gain > 0, // and what plays it is not muted
    )
    if (!first) throw new Error('no sound was heard, or Chromium tells otherwise of it')
    return (first.ts - accept.ts) / 1000
  }
  const caller = mark(clicked)
  if (caller.pid === accept.pid) throw new Error('both pages are in one process: its trace does not tell who hears')
  return { caller: of(caller.pid), callee: of(accept.pid) }
}
