// The ring tones and the ring-back tone, made of a few notes: no sound files.

import { signal } from '@preact/signals'

interface Note {
  readonly hertz: number
  readonly at: number
  readonly length: number
}
interface Tone {
  readonly notes: readonly Note[]
  readonly everyMs: number
  readonly volume: number
}

const tones = {
  // A rising fifth, twice, then quiet.
  ring: {
    notes: [
      { hertz: 659.26, at: 0, length: 0.5 },
      { hertz: 987.77, at: 0.22, length: 0.9 },
      { hertz: 659.26, at: 1.1, length: 0.5 },
      { hertz: 987.77, at: 1.32, length: 0.9 },
    ],
    everyMs: 3600,
    volume: 0.12,
  },
  // What the caller hears: lower, slower, softer.
  ringback: {
    notes: [
      { hertz: 392, at: 0, length: 1.1 },
      { hertz: 493.88, at: 0.08, length: 1.1 },
    ],
    everyMs: 3600,
    volume: 0.05,
  },
  // Beside a conversation: two drops, then long nothing.
  waiting: {
    notes: [
      { hertz: 880, at: 0, length: 0.3 },
      { hertz: 880, at: 0.4, length: 0.3 },
    ],
    everyMs: 5000,
    volume: 0.04,
  },
} satisfies Record<string, Tone>

/** After so long a browser that allows sound has begun to play. */
const startsMs = 500

const vibration = [400, 200, 400]

/**
 * Plays one tone at a time, where the browser allows sound. Of several tabs that ring, one is heard. A phone vibrates,
 * too, when it rings.
 */
export class Ringer {
  /** The browser lets this page make no sound before the person has touched it. */
  readonly silent = signal(false)
  #context: AudioContext | undefined
  #playing: keyof typeof tones | undefined
  #quiet: () => void = () => undefined

  play(tone: keyof typeof tones): void {
    if (this.#playing === tone) return
    this.silence()
    this.#playing = tone
    const silenced = new Promise<void>((resolve) => {
      this.#quiet = resolve
    })
    // The lock is the right to make noise; it is not there on pages that are not secure.
    if (tone !== 'ringback' && 'locks' in navigator) {
      const turn = new AbortController()
      void silenced.then(() => turn.abort())
      navigator.locks
        .request('visavis.ring', { signal: turn.signal }, () => this.#repeat(tone, silenced))
        .catch(() => undefined) // silenced before it was this tab's turn
    } else {
      void this.#repeat(tone, silenced)
    }
  }

  silence(): void {
    this.#playing = undefined
    this.#quiet()
  }

  /** Finds out whether it would be heard. A touch or a key anywhere on the page makes it so. */
  listen(page: Pick<Window, 'addEventListener' | 'removeEventListener'> = window): void {
    const context = this.#open()
    if (!context) return
    let started = context.state === 'running'
    const touch = () => void context.resume().catch(() => undefined)
    const change = () => {
      if (context.state !== 'running') return
      started = true
      this.silent.value = false
      page.removeEventListener('pointerup', touch)
      page.removeEventListener('keydown', touch)
      context.removeEventListener('statechange', change)
      // An open sound device costs power.
      if (!this.#playing) void context.suspend().catch(() => undefined)
    }
    context.addEventListener('statechange', change)
    page.addEventListener('pointerup', touch)
    page.addEventListener('keydown', touch)
    touch()
    change()
    setTimeout(() => {
      this.silent.value = !started
    }, startsMs)
  }

  #open(): AudioContext | undefined {
    if (!('AudioContext' in globalThis)) return undefined
    this.#context ??= new AudioContext()
    return this.#context
  }

  async #repeat(name: keyof typeof tones, silenced: Promise<void>): Promise<void> {
    const context = this.#open()
    if (this.#playing !== name || !context) return
    // Pending until the person has touched the page: the tone then begins by itself.
    void context.resume().catch(() => undefined)
    const out = context.createGain()
    out.connect(context.destination)
    const { notes, everyMs, volume } = tones[name]
    out.gain.value = volume
    const sound = () => {
      if (name === 'ring') navigator.vibrate?.(vibration)
      if (context.state !== 'running') return
      for (const note of notes) strike(context, out, note)
    }
    sound()
    context.onstatechange = sound
    const timer = setInterval(sound, everyMs)
    await silenced
    clearInterval(timer)
    if (name === 'ring') navigator.vibrate?.(0)
    context.onstatechange = null
    out.gain.setTargetAtTime(0, context.currentTime, 0.03)
    setTimeout(() => {
      out.disconnect()
      if (!this.#playing) void context.suspend().catch(() => undefined)
    }, 300)
  }
}

// A struck bar: a sine with a soft second partial, quickly there, slowly gone.
function strike(context: AudioContext, out: AudioNode, { hertz, at, length }: Note): void {
  const begin = context.currentTime + 0.02 + at
  for (const [partial, loudness] of [
    [1, 1],
    [2, 0.22],
  ] as const) {
    const oscillator = context.createOscillator()
    const envelope = context.createGain()
    oscillator.frequency.value = hertz * partial
    envelope.gain.setValueAtTime(0, begin)
    envelope.gain.linearRampToValueAtTime(loudness, begin + 0.02)
    envelope.gain.exponentialRampToValueAtTime(0.001, begin + length)
    oscillator.connect(envelope).connect(out)
    oscillator.start(begin)
    oscillator.stop(begin + length)
  }
}
