import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { timings } from './fakes.ts'
import { Recovery, type Trouble } from './recovery.ts'

let recovery: Recovery
/** When, by the clock of the test, and the how manieth try. */
let restarts: string[]
let lateMs: number
let reachable: boolean
let flows: boolean
/** Until when the path that is looked for may be waited for. */
let settlesAt: number
let began: number

beforeEach(() => {
  vi.useFakeTimers()
  vi.spyOn(Math, 'random').mockReturnValue(0.5)
  restarts = []
  lateMs = 0
  reachable = true
  flows = false
  settlesAt = 0
  began = performance.now()
  recovery = new Recovery({
    timings: () => timings,
    yieldMs: () => lateMs,
    reachable: () => reachable,
    receiving: () => flows,
    settlingMs: () => settlesAt - (performance.now() - began),
    restart: (attempts, pathGone) => {
      restarts.push(`${performance.now() - began} #${attempts}${pathGone ? ' path gone' : ''}`)
    },
  })
})

afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

type Act = Trouble | 'start over' | 'away' | 'back' | 'doubted' | 'flows' | 'settles for 1 s'

/** What happens when, in milliseconds; and the restarts that come of it in 20 s. */
const table: [string, [number, Act][], string[], number?][] = [
  ['all is well', [[0, 'none']], []],
  [
    'one who is missed is waited for for 2 s, then tries more and more seldom',
    [[0, 'disconnected']],
    ['2000 #0', '2300 #1', '3500 #2', '6200 #3', '11000 #4', '18000 #5'],
  ],
  [
    'one who is missed for a moment',
    [
      [0, 'disconnected'],
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
    'nothing comes any more: at once, and the callee comes later',
    [
      [0, 'stalled'],
      [999, 'none'],
      [2000, 'disconnected'],
      [2500, 'stalled'],
      [3501, 'none'],
    ],
    ['3500 #0'],
    1000,
  ],
  [
    'one who is missed, and then the connection fails: that does not wait on',
    [
      [0, 'disconnected'],
      [500, 'failed'],
      [501, 'none'],
    ],
    ['500 #0'],
  ],
  [
    'trouble that goes on does not begin anew',
    [
      [0, 'failed'],
      [100, 'disconnected'],
      [200, 'failed'],
      [1600, 'none'],
    ],
    ['0 #0', '300 #1', '1500 #2'],
  ],
  [
    'the callee comes later',
    [
      [0, 'disconnected'],
      [3001, 'none'],
      [5000, 'failed'],
      [6001, 'none'],
    ],
    ['3000 #0', '6000 #0'],
    1000,
  ],
  ['another network, though media flows still', [[0, 'start over']], ['0 #0 path gone']],
  [
    'another network, told three times over',
    [
      [0, 'start over'],
      [10, 'start over'],
      [900, 'start over'],
    ],
    ['0 #0 path gone', '1000 #0 path gone'],
  ],
  [
    'another network, told again while media flows by the new path',
    [
      [0, 'start over'],
      [10, 'start over'],
      [600, 'flows'],
    ],
    ['0 #0 path gone'],
  ],
  [
    'another network once more, though media flows',
    [
      [0, 'flows'],
      [0, 'start over'],
      [1000, 'start over'],
    ],
    ['0 #0 path gone', '1000 #0 path gone'],
  ],
  [
    'what was just agreed on is given its time, and no more',
    [
      [0, 'disconnected'],
      [1500, 'settles for 1 s'],
      [2900, 'none'],
    ],
    ['2500 #0', '2800 #1'],
  ],
  [
    'another network is not waited for',
    [
      [0, 'settles for 1 s'],
      [500, 'start over'],
    ],
    ['500 #0 path gone'],
  ],
  [
    'another network in the middle of tries begins them anew, also for the callee',
    [
      [0, 'failed'],
      [5000, 'start over'],
      [5400, 'none'],
    ],
    ['1000 #0', '1300 #1', '2500 #2', '5000 #0 path gone', '5300 #1'],
    1000,
  ],
  [
    'nothing is tried while nobody can hear of it, and at once when they can',
    [
      [0, 'away'],
      [0, 'disconnected'],
      [7000, 'back'],
      [7100, 'none'],
    ],
    ['7000 #0 path gone'],
  ],
  [
    'another network while nobody can hear of it',
    [
      [0, 'away'],
      [100, 'start over'],
      [500, 'back'],
    ],
    ['500 #0 path gone'],
  ],
  [
    'nothing is tried while it is in doubt whether they hear of it; it was due, not certain',
    [
      [0, 'disconnected'],
      [1000, 'away'],
      [2500, 'doubted'],
      [2600, 'none'],
    ],
    ['2500 #0'],
  ],
  [
    'a doubt hastens nothing',
    [
      [0, 'disconnected'],
      [1000, 'away'],
      [1100, 'doubted'],
      [2100, 'none'],
    ],
    ['2000 #0'],
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
    else if (act === 'flows') flows = true
    else if (act === 'settles for 1 s') settlesAt = at + 1000
    else if (act === 'back' || act === 'doubted') {
      reachable = true
      recovery.reachableAgain(act === 'back')
    } else recovery.update(act)
  }
  vi.advanceTimersByTime(20_000 - (performance.now() - began))
  expect(restarts).toEqual(expected)
})

test.each([
  [0, ['2000 #0', '2240 #1']],
  [1, ['2000 #0', '2360 #1']],
])('tries are spread: %d', (random, expected) => {
  vi.mocked(Math.random).mockReturnValue(random)
  recovery.update('disconnected')
  vi.advanceTimersByTime(2400)
  expect(restarts).toEqual(expected)
})

test('a call that is over tries nothing', () => {
  recovery.update('disconnected')
  recovery.close()
  vi.advanceTimersByTime(60_000)
  expect(restarts).toEqual([])
})
