/**
 * Runs in each page before its own scripts, and notes in window.watched when something first happened: by the machine's
 * clock, so that the times of two pages can be compared.
 */
export function watch() {
  const watched = {}
  window.watched = watched
  const note = (what, time) => {
    watched[what] ??= performance.timeOrigin + time
  }

  // When the browser took the click, not when a script got to hear of it.
  const nameOf = (button) => button.getAttribute('aria-label') ?? button.textContent.trim()
  addEventListener(
    'click',
    (event) => {
      const button = event.target.closest?.('button')
      if (!button) return
      note(`click ${nameOf(button)}`, event.timeStamp)
      performance.mark(`click ${nameOf(button)}`, { startTime: event.timeStamp })
    },
    true,
  )

  // Something is seen when the frame in which it first stands has been drawn.
  const isShown = (element) => element.checkVisibility()
  const sights = {
    accept: () => [...document.querySelectorAll('button')].some((b) => nameOf(b) === 'Accept' && isShown(b)),
    ringing: () => [...document.querySelectorAll('[role=status]')].some((e) => /^Ringing/u.test(e.textContent) && isShown(e)),
  }
  const drawn = (then) => {
    const channel = new MessageChannel()
    channel.port1.onmessage = () => then(performance.now())
    requestAnimationFrame(() => channel.port2.postMessage(undefined))
  }

  // A picture of the other one: the video has a track that came from a connection.
  const theirs = new WeakSet()
  const Connection = window.RTCPeerConnection
  window.RTCPeerConnection = class extends Connection {
    constructor(...args) {
      super(...args)
      this.addEventListener('track', ({ track, receiver }) => {
        theirs.add(track)
        if (track.kind === 'audio') listen(receiver)
      })
    }
  }
  // That there is sound; when it was first heard no page can know (heard.mjs).
  const listen = (receiver) => {
    const timer = setInterval(() => {
      if (receiver.getSynchronizationSources().length === 0) return
      clearInterval(timer)
      note('sound', performance.now())
    }, 50)
  }
  const followed = new WeakSet()
  const follow = (video) => {
    if (followed.has(video)) return
    followed.add(video)
    const frame = (_now, { presentationTime }) => {
      const remote = video.srcObject?.getVideoTracks().some((track) => theirs.has(track))
      if (remote) note('frame', presentationTime)
      else video.requestVideoFrameCallback(frame)
    }
    video.requestVideoFrameCallback(frame)
  }

  const look = () => {
    for (const [what, isThere] of Object.entries(sights)) {
      if (watched[what] === undefined && isThere()) drawn((time) => note(what, time))
    }
    for (const video of document.querySelectorAll('video')) follow(video)
  }
  new MutationObserver(look).observe(document, {
    subtree: true,
    childList: true,
    attributes: true,
    characterData: true,
  })
}
