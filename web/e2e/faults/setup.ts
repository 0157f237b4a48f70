import type { TestProject } from 'vitest/node'
import { setup as startBrowsers } from '../browsers.ts'
import { clear, print } from './table.ts'

export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const stop = await startBrowsers(project, true)
  await clear()
  return async () => {
    await stop()
    await print()
  }
}
