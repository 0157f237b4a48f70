// Call measures what a person waits for: from the click on "Call Bob" until it rings, and from "Accept" until there is a
// picture. Two pages in one Chromium, our page over our server, and in turn with it a page as tutorials write it over a
// Socket.IO server (bench/peer). All times are taken in the pages. Nothing here fails for being slow.
//
//   make bench-call     or     node bench/call/call.mjs --runs 5
//
// How and why so: bench/README.md.

import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { cpus, loadavg, release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { watch } from './watch.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))
const patienceMs = 30_000
// Somebody needs about so long to see who rings; meanwhile the caller's camera opens, as in life.
const thinkingMs = 1500

const { values: chosen } = parseArgs({
  options: {
    runs: { type: 'string', default: '20' },
    visavis: { type: 'string', default: join(root, 'bin/visavis') },
    chromium: { type: 'string', default: 'chromium' },
  },
})
const runs = Number(chosen.runs)
if (!Number.isInteger(runs) || runs < 1) fail('--runs is a number from 1 on')
if (!existsSync(chosen.visavis)) fail('our server is not built', 'make build')
if (!existsSync(join(root, 'bench/peer/node_modules/socket.io'))) {
  fail("the peer's packages are not installed", 'npm ci --prefix bench/peer')
}
const { chromium } = load('playwright-core')

const folder = mkdtempSync(join(tmpdir(), 'visavis-bench-'))
const processes = []
let browser
try {
  const ours = await serve(chosen.visavis, [
    ...['serve', '--listen', '127.0.0.1:0', '--relay-listen', '127.0.0.1:0'],
    ...['--data', join(folder, 'data'), '--call-rings-per-minute', '60'],
  ])
  const theirs = await serve('node', [join(root, 'bench/peer/server.js')])
  browser = await chromium.launch({
    executablePath: execFileSync('which', [chosen.chromium], { encoding: 'utf8' }).trim(),
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--use-fake-device-for-media-stream',
      '--use-fake-ui-for-media-stream',
      '--autoplay-policy=no-user-gesture-required',
    ],
  })
  const contestants = [
    { name: 'visavis', enter: (page, name) => enterOurs(page, ours, name) },
    { name: 'Socket.IO', enter: (page, name, peer) => enterTheirs(page, theirs, name, peer) },
  ]
  // One call each that does not count: the first getUserMedia of a browser starts a process.
  for (const contestant of contestants) await call(contestant, 0)
  const measured = []
  for (let run = 1; run <= runs; run++) {
    for (const contestant of contestants) {
      const times = await call(contestant, run)
      measured.push({ page: contestant.name, ...times })
      const line = Object.entries(times).map(([what, ms]) => `${what} ${ms?.toFixed(0) ?? '–'}`)
      console.error(`run ${run} of ${runs}  ${contestant.name.padEnd(9)}  ${line.join(', ')} ms`)
    }
  }
  report(measured)
} finally {
  await browser?.close()
  for (const process of processes) process.kill()
  rmSync(folder, { recursive: true, force: true })
}

/** One call in two new pages: how long each step took, in ms. */
async function call(contestant, run) {
  const [ann, bob] = [`Ann ${run}`, `Bob ${run}`]
  const contexts = await Promise.all([0, 1].map(() => browser.newContext({ locale: 'en-US' })))
  try {
    const [caller, callee] = await Promise.all(contexts.map((context) => context.newPage()))
    for (const page of [caller, callee]) {
      page.setDefaultTimeout(patienceMs)
      page.on('pageerror', (error) => console.error(`${contestant.name}: ${error.message}`))
      await page.addInitScript(watch)
    }
    await contestant.enter(callee, bob, ann)
    await contestant.enter(caller, ann, bob)

    await caller.getByRole('button', { name: `Call ${bob}`, exact: true }).click()
    await seen(callee, 'accept')
    await new Promise((resolve) => setTimeout(resolve, thinkingMs))
    await callee.getByRole('button', { name: 'Accept', exact: true }).click()
    await Promise.all([seen(caller, 'frame'), seen(callee, 'frame')])
    const [there, here] = await Promise.all([caller, callee].map((page) => page.evaluate(() => window.watched)))
    await caller.getByRole('button', { name: 'Hang up', exact: true }).click()
    const clicked = there[`click Call ${bob}`]
    const accepted = here['click Accept']
    return {
      ringing: here.accept - clicked,
      told: there.ringing && there.ringing - clicked,
      calleeSees: here.frame - accepted,
      callerSees: there.frame - accepted,
    }
  } finally {
    for (const context of contexts) await context.close()
  }
}

async function seen(page, what) {
  await page.waitForFunction((name) => window.watched[name] !== undefined, what, { polling: 50 })
}

async function enterOurs(page, url, name) {
  await page.goto(url)
  await page.getByRole('textbox', { name: 'Your name' }).fill(name)
  await page.getByRole('button', { name: 'Come in' }).click()
  await page.getByRole('heading', { name: 'People' }).waitFor()
}

async function enterTheirs(page, url, name, peer) {
  await page.goto(`${url}/?${new URLSearchParams({ name, peer })}`)
  await page.waitForFunction(() => !document.getElementById('call').disabled)
}

/** Starts a server and waits for its address. */
function serve(command, args) {
  const server = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  processes.push(server)
  let log = ''
  server.stderr.on('data', (data) => {
    log += data
  })
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${command} tells no address\n${log}`)), patienceMs)
    createInterface(server.stdout).on('line', (line) => {
      const [url] = /http:\/\/\S+/u.exec(line) ?? []
      if (url === undefined) return
      clearTimeout(timer)
      resolve(url)
    })
    server.on('error', reject)
    server.on('exit', (code) => reject(new Error(`${command} ended with ${code}\n${log}`)))
  })
}

function report(measured) {
  const machine = {
    cpu: cpus()[0]?.model,
    cores: cpus().length,
    kernel: release().split('-')[0],
    node: process.version,
    chromium: browser.version(),
    load: loadavg()[0],
  }
  const steps = {
    ringing: 'click on Call → Accept can be seen',
    told: 'click on Call → caller reads Ringing',
    calleeSees: 'click on Accept → first picture, callee',
    callerSees: 'click on Accept → first picture, caller',
  }
  const figures = { machine, runs, steps: {} }
  console.log(
    `\n${machine.cores} × ${machine.cpu}, Linux ${machine.kernel}, Chromium ${machine.chromium}, Node ${machine.node}, load ${machine.load.toFixed(1)}; ${runs} runs each, ms\n`,
  )
  const row = (what, ...cells) => console.log(what.padEnd(42) + cells.map((cell) => cell.padStart(15)).join(''))
  row('', 'Visavis p50', 'p95', 'Socket.IO p50', 'p95', 'ratio of p50')
  for (const [step, what] of Object.entries(steps)) {
    const of = (page) => {
      const all = measured.filter((m) => m.page === page).map((m) => m[step])
      return all.includes(undefined) ? undefined : { p50: percentile(all, 50), p95: percentile(all, 95) }
    }
    const [us, them] = [of('visavis'), of('Socket.IO')]
    figures.steps[step] = { visavis: us, socketio: them }
    const show = (ms) => ms?.toFixed(0) ?? '–'
    const ratio = us && them ? (us.p50 / them.p50).toFixed(2) : '–'
    row(what, show(us?.p50), show(us?.p95), show(them?.p50), show(them?.p95), ratio)
  }
  console.log(`\n${JSON.stringify({ ...figures, measured })}`)
}

/** The nearest-rank percentile. */
function percentile(values, percent) {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)]
}

/** A package of web/, whose tests use it already. */
function load(name) {
  try {
    return createRequire(join(root, 'web/e2e/package.json'))(name)
  } catch {
    return fail(`${name} is not installed`, 'npm ci --prefix web')
  }
}

function fail(what, hint) {
  console.error(`call: ${what}${hint ? `\nhint: ${hint}` : ''}`)
  process.exit(1)
}
