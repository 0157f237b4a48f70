import { type ReadonlySignal, signal } from '@preact/signals'
import type { DeviceProblem } from 'visavis'
import type { Call } from '../client.ts'

/** My microphone and camera, as the page shows them. */
export interface ShownDevices {
  /** The microphone is sent, or about to be. */
  readonly audio: boolean
  /** The camera is sent, or about to be. */
  readonly video: boolean
  /** The browser asks the person for these and waits for an answer. */
  readonly asking: { readonly audio: boolean; readonly video: boolean }
  readonly problems: readonly DeviceProblem[]
}

/** A device that has not started by then is one that the person is asked for: a camera takes a second or two. */
export const askingToldMs = 2500

/** My microphone and camera in one call. A button answers at once, before the device has. */
export class Devices {
  /** The person has read what is the matter with their devices. */
  readonly dismissed = signal(false)

  readonly #call: Call
  readonly #changed: () => void
  readonly #shown = signal<ShownDevices>({
    audio: false,
    video: false,
    asking: { audio: false, video: false },
    problems: [],
  })
  /** What a button was pressed for, until the device has answered. */
  readonly #expected: { audio?: boolean; video?: boolean } = {}
  /** Since when a device has been asked for. */
  #openingAt: number | undefined

  /** `changed` is called when {@link follow} is due for another reason than an event of the call. */
  constructor(call: Call, changed: () => void) {
    this.#call = call
    this.#changed = changed
  }

  get shown(): ReadonlySignal<ShownDevices> {
    return this.#shown
  }

  setAudio(on: boolean): void {
    this.#expect('audio', on, this.#call.setAudio(on))
  }

  setVideo(on: boolean): void {
    this.#expect('video', on, this.#call.setVideo(on))
  }

  dismiss(): void {
    this.dismissed.value = true
    this.#changed()
  }

  /** Takes over how the call's devices stand now. */
  follow(): void {
    const { audio, video } = this.#call.opening
    this.#openingAt = audio || video ? (this.#openingAt ?? performance.now()) : undefined
    this.#shown.value = {
      audio: this.#shows('audio'),
      video: this.#shows('video'),
      asking: { audio: this.#asks('audio'), video: this.#asks('video') },
      problems: this.#call.problems,
    }
  }

  /** Some time has passed. */
  tick(): void {
    const { asking } = this.#shown.value
    if (this.#asks('audio') !== asking.audio || this.#asks('video') !== asking.video) {
      queueMicrotask(this.#changed)
    }
  }

  // Why a device did not start stands in `problems` then.
  #expect(kind: 'audio' | 'video', on: boolean, change: Promise<void>): void {
    this.dismissed.value = false
    this.#expected[kind] = on
    this.#changed()
    const settled = () => {
      if (this.#expected[kind] === on) delete this.#expected[kind]
      this.#changed()
    }
    change.then(settled, settled)
  }

  /** A device that was asked for is shown as if it were on. */
  #shows(kind: 'audio' | 'video'): boolean {
    const { micOn, cameraOn, opening } = this.#call
    const sent = kind === 'audio' ? micOn : cameraOn
    if (this.#asks(kind)) return sent
    return this.#expected[kind] ?? (sent || opening[kind])
  }

  #asks(kind: 'audio' | 'video'): boolean {
    const since = this.#openingAt ?? performance.now()
    return this.#call.opening[kind] && performance.now() - since >= askingToldMs
  }
}
