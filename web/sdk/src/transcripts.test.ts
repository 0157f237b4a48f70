/**
 * Whole calls, as protocol/testdata/calls has them: the server's tests say that these are what it
 * says, and here each page of them does its part and must stand where the file says after each message.
 */

import { readdirSync, readFileSync } from 'node:fs'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Call, CallState } from './call.ts'
import {
  FakeLocks,
  FakePeerConnection,
  FakeSocket,
  fakeBrowser,
  fakeStorage,
  page,
  settle,
  timings,
} from './fakes.ts'
import { Visavis } from './visavis.ts'
import { decode } from './wire.ts'

/** What any message may have of what is looked at here. */
interface Message {
  readonly type: string
  readonly call?: string
  readonly ref?: string
  readonly to?: string
  readonly video?: boolean
  readonly audio?: boolean
  readonly connection?: string
  readonly candidates?: readonly { readonly candidate: string }[]
  readonly description?: { readonly sdp: string }
  readonly whenBusy?: 'waiting' | 'busy'
  readonly doNotDisturb?: boolean
}

/** One step of a transcript; README.md beside the files says what each field means. */
interface Step {
  readonly session?: string
  readonly does?: Message
  readonly sends?: Message
  readonly hears?: Message
  readonly happens?: string
  readonly of?: string
  readonly passMs?: number
  readonly state?: CallState
  readonly reason?: string
  readonly by?: string
  readonly code?: string
}

interface Transcript {
  readonly early?: boolean
  readonly sessions: readonly string[]
  readonly steps: readonly Step[]
}

const folder = new URL('../../../protocol/testdata/calls/', import.meta.url)
const files = readdirSync(folder).filter((name) => name.endsWith('.json'))

/** The pages of a transcript: each by its first session, and those in which it goes on. */
function pages({ sessions, steps }: Transcript): string[][] {
  const found = sessions.map((session) => [session])
  for (const { session, happens, of } of steps) {
    if (session === undefined) continue
    if (happens === 'opens') found.push([session])
    if (of !== undefined) found.find((each) => each.includes(of))?.push(session)
  }
  return found
}

const cases = files.flatMap((file) => {
  const transcript: Transcript = JSON.parse(readFileSync(new URL(file, folder), 'utf8'))
  const name = file.replace('.json', '')
  return pages(transcript).map((sessions) => ({
    name,
    page: sessions.join(', '),
    transcript,
    sessions,
  }))
})

/** The fakes' descriptions, in the place of the word that the files have for any. */
const sdp = 'm=audio \nm=video \nm=application '
function described<M extends Message>(message: M): M {
  const { description } = message
  return description ? { ...message, description: { ...description, sdp } } : message
}

/** A peer connection whose media flows. */
class FlowingConnection extends FakePeerConnection {
  override getStats() {
    this.bytes = performance.now()
    return super.getStats()
  }
}

/** One page of a transcript, from its first session to the end. */
class Page {
  readonly #early: boolean
  readonly #storage = fakeStorage()
  #visavis: Visavis | undefined
  #calls: Call[] = []
  readonly #byRef = new Map<string, Call>()
  /** What it has sent that the transcript has not come to. */
  #unsaid: Record<string, unknown>[] = []
  #session = ''
  /** The server's own numbers, and the last of ours that the server has. */
  #seq = 0
  #heard = 0

  constructor(transcript: Transcript) {
    this.#early = transcript.early ?? false
  }

  async play(step: Step): Promise<void> {
    if (step.does) await this.#act(step.does)
    if (step.sends) await this.#sends(step.sends)
    if (step.hears) await this.#hears(step.hears)
    if (step.happens !== undefined) await this.happens(step)
    const call = this.#callOf(step.does ?? step.sends ?? step.hears)
    if (step.hears || step.state !== undefined) this.#stands(call, step)
  }

  #stands(call: Call | undefined, { state, reason, by, code }: Step): void {
    expect(call?.state).toBe(state)
    const end = state === 'ended' ? { reason, by, code } : undefined
    const is = call?.end
    expect(is && { reason: is.reason, by: is.by, code: is.error?.code }).toEqual(end)
  }

  /** The call that a message is of; the last one, where it says none. */
  #callOf(message: Message | undefined): Call | undefined {
    const { ref, call } = message ?? {}
    if (ref !== undefined) return this.#byRef.get(ref)
    return call === undefined ? this.#calls.at(-1) : this.#calls.findLast(({ id }) => id === call)
  }

  async happens({ happens, session = '', of = '' }: Step): Promise<void> {
    switch (happens) {
      case 'opens':
        this.#load()
        await settle()
        expect(await this.#greet(session)).not.toHaveProperty('resume')
        return
      case 'server stops':
        return
      case 'connection lost':
      case 'server lost':
      case 'server replaced':
        this.#collect()
        FakeSocket.last.closes(1006)
        await settle()
        return
      case 'connection back':
        expect(await this.#greet(session, true)).toMatchObject({
          resume: `resume ${session}`,
          received: this.#seq,
        })
        return
      case 'page closed':
        this.#goes()
        return
      case 'reloads':
        this.#goes()
        FakeLocks.held.clear()
        this.#load()
        await settle()
        expect(await this.#greet(session)).toMatchObject({ resume: `resume ${of}`, reload: true })
        return
      case 'comes anew':
        if (this.#visavis?.state === 'online') {
          this.#collect()
          FakeSocket.last.closes(1006)
          await settle()
        }
        expect(await this.#greet(session)).toMatchObject({ resume: `resume ${of}` })
        return
      default:
        throw new Error(`nobody knows what "${happens}" is`)
    }
  }

  async passes(ms: number): Promise<void> {
    this.done()
    for (let left = ms; left > 0; left -= timings.pingMs) {
      await vi.advanceTimersByTimeAsync(Math.min(left, timings.pingMs))
      if (this.#visavis?.state === 'online')
        FakeSocket.last.says({ type: 'ping', ack: this.#heard })
    }
    await settle()
  }

  /** Whatever it has sent stands in the transcript. */
  done(): void {
    this.#collect()
    expect(this.#unsaid).toEqual([])
  }

  get #me(): Visavis {
    if (!this.#visavis) throw new Error('there is no page')
    return this.#visavis
  }

  #load(): void {
    const visavis = new Visavis({
      url: 'https://server',
      name: 'somebody',
      early: this.#early,
      storage: null,
      pageStorage: this.#storage,
    })
    this.#visavis = visavis
    this.#calls = []
    this.#byRef.clear()
    const seen = (call: Call | undefined) => {
      if (call && !this.#calls.includes(call)) this.#calls.push(call)
    }
    visavis.on('ring', seen)
    visavis.on('call', seen)
    visavis.connect().catch(() => undefined)
  }

  /** The page is no more: nothing of it acts any longer. */
  #goes(): void {
    if (!this.#visavis) return
    this.done()
    page.dispatchEvent(new Event('pagehide'))
    vi.clearAllTimers()
    this.#visavis = undefined
  }

  /** Answers the hello that waits for it. */
  async #greet(session: string, resumed = false): Promise<Record<string, unknown> | undefined> {
    FakeSocket.last.open()
    const [hello] = FakeSocket.last.take()
    if (!resumed) this.#seq = this.#heard = 0
    this.#session = session
    FakeSocket.last.says({
      type: 'welcome',
      session,
      resume: `resume ${session}`,
      resumed,
      received: this.#heard,
      user: { id: session.replace(/\d+$/, ''), name: 'Me', presence: 'online' },
      token: 'token',
      iceServers: [{ urls: [this.#early ? 'turn:visavis' : 'stun:visavis'] }],
      timings,
      users: [],
    })
    await settle()
    return hello
  }

  async #hears(message: Message): Promise<void> {
    const said = described(message)
    // Every field of it means something here.
    const decoded: unknown = decode(JSON.stringify(said))
    expect(JSON.parse(JSON.stringify(decoded ?? null))).toMatchObject(said)
    FakeSocket.last.says({ seq: ++this.#seq, ...said })
    await settle()
  }

  /** What the transcript has it send: by itself, or because the person does it now. */
  async #sends(message: Message): Promise<void> {
    this.#collect()
    if (this.#unsaid.length === 0) await this.#act(message)
    this.#collect()
    expect(this.#unsaid.shift()).toEqual(described(message))
  }

  #collect(): void {
    for (const { seq, ...message } of FakeSocket.all.at(-1)?.take() ?? []) {
      this.#heard = Number(seq ?? this.#heard)
      const { type } = message
      if (type !== 'pong') this.#unsaid.push(message)
    }
  }

  async #act(message: Message): Promise<void> {
    const call = this.#callOf(message)
    switch (message.type) {
      case 'ring': {
        const rung = this.#me.ring(message.to ?? '', { video: message.video ?? false })
        this.#byRef.set(message.ref ?? '', rung)
        break
      }
      case 'accept':
        call?.accept()
        break
      case 'decline':
        call?.decline()
        break
      case 'hangup':
        call?.hangup()
        break
      case 'prefer':
        this.#me.prefer({
          whenBusy: message.whenBusy ?? 'waiting',
          doNotDisturb: message.doNotDisturb ?? false,
        })
        break
      case 'candidate':
        for (const { candidate } of message.candidates ?? []) {
          FakePeerConnection.last.gathers(candidate)
        }
        // They leave in batches.
        await vi.advanceTimersByTimeAsync(20)
        break
      case 'media':
        if (message.connection !== call?.state) {
          FakePeerConnection.last.becomes(
            message.connection === 'reconnecting' ? 'disconnected' : 'connected',
          )
        } else {
          await call?.setAudio(message.audio ?? false)
          await call?.setVideo(message.video ?? false)
        }
        break
      default:
        throw new Error(
          `${this.#session} sends no ${message.type} by itself, and nobody can make it`,
        )
    }
    await settle()
  }
}

beforeEach(() => {
  fakeBrowser()
  vi.stubGlobal('RTCPeerConnection', FlowingConnection)
  // A lost connection is made anew at once: the transcript says when it is answered.
  vi.spyOn(Math, 'random').mockReturnValue(0)
})

afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
  vi.restoreAllMocks()
})

test.each(cases)('$name: $page', async ({ transcript, sessions }) => {
  const [first = ''] = sessions
  const side = new Page(transcript)
  if (transcript.sessions.includes(first)) await side.happens({ happens: 'opens', session: first })
  for (const [i, step] of transcript.steps.entries()) {
    try {
      if (step.passMs !== undefined) await side.passes(step.passMs)
      else if (step.session === undefined) await side.happens(step)
      else if (sessions.includes(step.session)) await side.play(step)
    } catch (error) {
      throw new Error(`step ${i + 1}: ${JSON.stringify(step)}`, { cause: error })
    }
  }
  side.done()
})
