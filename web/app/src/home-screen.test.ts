import { expect, test } from 'vitest'
import { wantsHomeScreen } from './home-screen.ts'

const iPhone = 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15'
const mac = 'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15'
const android = 'Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 Chrome/140.0.0.0 Mobile'

test.each([
  ['an iPhone', iPhone, 5, false, true],
  ['an iPhone from its home screen', iPhone, 5, true, false],
  ['an iPad, which says that it is a Mac', mac, 5, false, true],
  ['a Mac', mac, 0, false, false],
  ['a phone of another maker', android, 5, false, false],
])('%s', (_, userAgent, maxTouchPoints, standalone, wants) => {
  expect(wantsHomeScreen({ userAgent, maxTouchPoints, standalone })).toBe(wants)
})
