import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { timings } from './fakes.ts'
import { Recovery, type Trouble } from './recovery.ts'

let recovery: Recovery
/** When, by the clock of the test, and the how manieth try. */
let restarts: string[]
let lateMs: number
let reachable: boolean
let began: number

beforeEach(() => {
  vi.useFakeTimers()
  vi.spyOn(Math, 'random').mockReturnValue(0.5)
  restarts = []
  lateMs = 0
  reachable = true
  began = performance.now()
  recovery = new Recovery({
    timings: () => timings,
    lateMs: () => lateMs,
    reachable: () => reachable,
    restart: (tries, certain) => {
      restarts.push(`${performance.now() - began} #${tries}${certain ? ' certain' : ''}`)
    },
  })
})

afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

type Act = Trouble | 'start over' | 'away' | 'back'

/** What happens when, in milliseconds; and the restarts that come of it in 20 s. */
const table: [string, [number, Act][], string[], number?][] = [
  ['all is well', [[0, 'none']], []],
  [
    'a standstill waits for 2 s, then tries more and more seldom',
    [[0, 'standstill']],
    ['2000 #0', '2300 #1', '3500 #2', '6200 #3', '11000 #4', '18000 #5'],
  ],
  [
    'a standstill that passes',
    [
      [0, 'standstill'],
      [1999, 'none'],
    ],
    [],
  ],
  [
    'a failure is at once',
    [
      [0, 'failed'],
      [1, 'none'],
    ],
    ['0 #0'],
  ],
  [
    'a standstill that becomes a failure does not wait on',
    [
      [0, 'standstill'],
      [500, 'failed'],
      [501, 'none'],
    ],
    ['500 #0'],
  ],
  [
    'trouble that goes on does not begin anew',
    [
      [0, 'failed'],
      [100, 'standstill'],
      [200, 'failed'],
      [1600, 'none'],
    ],
    ['0 #0', '300 #1', '1500 #2'],
  ],
  [
    'the callee comes later',
    [
      [0, 'standstill'],
      [3001, 'none'],
      [5000, 'failed'],
      [6001, 'none'],
    ],
    ['3000 #0', '6000 #0'],
    1000,
  ],
  ['another network, though media flows still', [[0, 'start over']], ['0 #0 certain']],
  [
    'another network, told three times over',
    [
      [0, 'start over'],
      [10, 'start over'],
      [900, 'start over'],
    ],
    ['0 #0 certain', '1000 #0 certain'],
  ],
  [
    'another network in the middle of tries begins them anew, also for the callee',
    [
      [0, 'failed'],
      [5000, 'start over'],
      [5400, 'none'],
    ],
    ['1000 #0', '1300 #1', '2500 #2', '5000 #0 certain', '5300 #1'],
    1000,
  ],
  [
    'nothing is tried while nobody can hear of it, and at once when they can',
    [
      [0, 'away'],
      [0, 'standstill'],
      [7000, 'back'],
      [7100, 'none'],
    ],
    ['7000 #0 certain'],
  ],
  [
    'another network while nobody can hear of it',
    [
      [0, 'away'],
      [100, 'start over'],
      [500, 'back'],
    ],
    ['500 #0 certain'],
  ],
  [
    'back, and nothing was the matter',
    [
      [0, 'away'],
      [500, 'back'],
    ],
    [],
  ],
]

test.each(table)('%s', (_, acts, expected, late = 0) => {
  lateMs = late
  for (const [at, act] of acts) {
    vi.advanceTimersByTime(at - (performance.now() - began))
    if (act === 'start over') recovery.startOver()
    else if (act === 'away') reachable = false
    else if (act === 'back') {
      reachable = true
      recovery.reachableAgain()
    } else recovery.becomes(act)
  }
  vi.advanceTimersByTime(20_000 - (performance.now() - began))
  expect(restarts).toEqual(expected)
})

test('the wait counts from when the media stood still', () => {
  vi.advanceTimersByTime(1000)
  recovery.becomes('standstill', began)
  vi.advanceTimersByTime(1000)
  expect(restarts).toEqual(['2000 #0'])
})

test.each([
  [0, ['2000 #0', '2240 #1']],
  [1, ['2000 #0', '2360 #1']],
])('tries are spread: %d', (random, expected) => {
  vi.mocked(Math.random).mockReturnValue(random)
  recovery.becomes('standstill')
  vi.advanceTimersByTime(2400)
  expect(restarts).toEqual(expected)
})

test('a call that is over tries nothing', () => {
  recovery.becomes('standstill')
  recovery.close()
  vi.advanceTimersByTime(60_000)
  expect(restarts).toEqual([])
})
