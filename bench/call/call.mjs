// Call measures what a person waits for: from the click on "Call Bob" until it rings, and from "Accept" until there is a
// picture. Our page over our server, with connecting while it rings and without, and in turn with them a page as tutorials
// write it over a Socket.IO server (bench/peer). Times are taken in the pages, but for sound (heard.mjs). Nothing here fails
// for being slow.
//
//   make bench-call     or     node bench/call/call.mjs --runs 5
//   make bench-far      two machines that are far from each other: far.sh
//
// How and why so: bench/README.md.

import { execFileSync, spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { cpus, loadavg, release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { categories, heard } from './heard.mjs'
import { watch } from './watch.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))
const patienceMs = 30_000
// Somebody needs about so long to find a name, and another one to see who rings; meanwhile the new windows are done with
// themselves, and the caller's camera opens, as in life.
const thinkingMs = 1500

const { values: chosen } = parseArgs({
  options: {
    runs: { type: 'string', default: '20' },
    // Where the servers listen, and in which network namespaces the two people's browsers are; without: all are here.
    address: { type: 'string', default: '127.0.0.1' },
    machines: { type: 'string', default: '' },
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

const machines = chosen.machines === '' ? [''] : chosen.machines.split(',')
const folder = mkdtempSync(join(tmpdir(), 'visavis-bench-'))
const processes = []
let browsers = []
try {
  const early = await serveOurs(8080, true)
  const late = await serveOurs(8081, false)
  const theirs = await serve('node', [join(root, 'bench/peer/server.js')], { HOST: chosen.address, PORT: '8082' })
  const launch = (machine) =>
    chromium.launch({
    executablePath: start(machine),
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
      `--unsafely-treat-insecure-origin-as-secure=${[early, late, theirs].join()}`,
    ],
  })
  browsers = await Promise.all(machines.map(launch))
  const contestants = [
    { name: 'early', enter: (page, name) => enterOurs(page, early, name) },
    { name: 'late', enter: (page, name) => enterOurs(page, late, name) },
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
  for (const browser of browsers) await browser.close()
  for (const process of processes) process.kill()
  rmSync(folder, { recursive: true, force: true })
}

/** One call in two new pages: how long each step took, in ms. */
async function call(contestant, run) {
  const [ann, bob] = [`Ann ${run}`, `Bob ${run}`]
  const contexts = await Promise.all([0, 1].map((i) => browsers.at(i % browsers.length).newContext({ locale: 'en-US' })))
  try {
    const [caller, callee] = await Promise.all(contexts.map((context) => context.newPage()))
    for (const page of [caller, callee]) {
      page.setDefaultTimeout(patienceMs)
      page.on('pageerror', (error) => console.error(`${contestant.name}: ${error.message}`))
      await page.addInitScript(watch)
      // The two are strangers, and a call of strangers goes over the relay; the peer's has none.
      await page.addInitScript(() => localStorage.setItem(`visavis.strangers ${location.origin}`, 'direct'))
    }
    await contestant.enter(callee, bob, ann)
    await contestant.enter(caller, ann, bob)

    await think()
    for (const browser of browsers) await browser.startTracing(undefined, { categories })
    await caller.getByRole('button', { name: `Call ${bob}`, exact: true }).click()
    await seen(callee, 'accept')
    await think()
    await callee.getByRole('button', { name: 'Accept', exact: true }).click()
    await Promise.all([caller, callee].flatMap((page) => [seen(page, 'frame'), seen(page, 'sound')]))
    const traces = await Promise.all(browsers.map((browser) => browser.stopTracing()))
    const [there, here] = await Promise.all([caller, callee].map((page) => page.evaluate(() => window.watched)))
    await caller.getByRole('button', { name: 'Hang up', exact: true }).click()
    const clicked = there[`click Call ${bob}`]
    const accepted = here['click Accept']
    const sound = heard(traces, { clicked: `click Call ${bob}` })
    return {
      ringing: here.accept - clicked,
      told: there.ringing && there.ringing - clicked,
      calleeSees: here.frame - accepted,
      callerSees: there.frame - accepted,
      calleeHears: sound.callee,
      callerHears: sound.caller,
    }
  } finally {
    for (const context of contexts) await context.close()
  }
}

function think() {
  return new Promise((resolve) => setTimeout(resolve, thinkingMs))
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

function serveOurs(port, early) {
  const { address } = chosen
  return serve(
    chosen.visavis,
    [
      ...['serve', '--listen', `${address}:${port}`, '--relay-listen', `${address}:0`, '--access', 'open'],
      ...['--data', join(folder, `data-${port}`), '--call-rings-per-minute', '60'],
      ...['--origins', `http://${address}:${port},http://localhost:${port}`],
    ],
    { VISAVIS_CALL_CONNECT_EARLY: String(early), VISAVIS_RELAY_ALLOW: '10.77.0.0/16,127.0.0.0/8' },
  )
}

/** What starts Chromium on a machine: in its network namespace. */
function start(machine) {
  const program = execFileSync('which', [chosen.chromium], { encoding: 'utf8' }).trim()
  if (machine === '') return program
  const script = join(folder, machine)
  writeFileSync(script, `#!/bin/sh\nexec ip netns exec ${machine} ${program} "$@"\n`)
  chmodSync(script, 0o700)
  return script
}

/** Starts a server and waits for its address. */
function serve(command, args, more) {
  // Between machines a server has one of its own, which is not busy with browsers: it goes before them, as the lines do.
  const before = machines.length > 1 ? ['chrt', '--fifo', '1'] : []
  const [program, ...words] = [...before, command, ...args]
  const server = spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...more } })
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
    chromium: browsers[0].version(),
    load: loadavg()[0],
  }
  const steps = {
    ringing: 'click on Call → Accept can be seen',
    told: 'click on Call → caller reads Ringing',
    calleeSees: 'click on Accept → first picture, callee',
    callerSees: 'click on Accept → first picture, caller',
    calleeHears: 'click on Accept → first sound, callee',
    callerHears: 'click on Accept → first sound, caller',
  }
  const figures = { machine, runs, steps: {} }
  console.log(
    `\n${machine.cores} × ${machine.cpu}, Linux ${machine.kernel}, Chromium ${machine.chromium}, Node ${machine.node}, load ${machine.load.toFixed(1)}; ${runs} runs each, ms\n`,
  )
  const row = (what, ...cells) => console.log(what.padEnd(42) + cells.map((cell) => cell.padStart(15)).join(''))
  row('', 'early p50', 'p95', 'late p50', 'p95', 'Socket.IO p50', 'p95')
  for (const [step, what] of Object.entries(steps)) {
    const of = (page) => {
      const all = measured.filter((m) => m.page === page).map((m) => m[step])
      return all.includes(undefined) ? undefined : { p50: percentile(all, 50), p95: percentile(all, 95) }
    }
    const all = ['early', 'late', 'Socket.IO'].map(of)
    figures.steps[step] = Object.fromEntries(['early', 'late', 'socketio'].map((name, i) => [name, all[i]]))
    const show = (ms) => ms?.toFixed(0) ?? '–'
    row(what, ...all.flatMap((one) => [show(one?.p50), show(one?.p95)]))
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
