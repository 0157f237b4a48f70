import { useSignal } from '@preact/signals'
import type { ComponentChildren, TargetedFocusEvent, TargetedKeyboardEvent } from 'preact'
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks'

/** So many rows are drawn at once: more than the tallest screen shows. */
export const rowsAtOnce = 50

interface Props<Item> {
  items: readonly Item[]
  children: (item: Item) => ComponentChildren
}

/**
 * A list that is one Tab stop. The arrow keys go from row to row and along the buttons of a row, Home and End to the
 * first and the last row. A long list is drawn as far as it has been scrolled.
 */
export function Rows<Item>({ items, children }: Props<Item>) {
  const list = useRef<HTMLUListElement>(null)
  const stop = useRef<HTMLButtonElement | undefined>(undefined)
  const drawn = useSignal(rowsAtOnce)
  const end = useRef<HTMLLIElement>(null)
  /** The focus goes to the last row once that is drawn. */
  const toEnd = useRef(false)
  const more = items.length > drawn.value

  const stopAt = (button: HTMLButtonElement | undefined) => {
    if (stop.current) stop.current.tabIndex = -1
    stop.current = button
    if (button) button.tabIndex = 0
  }

  // Exactly one button can be reached by Tab, also after the rows have changed.
  useLayoutEffect(() => {
    const all = buttonsIn(list.current)
    for (const button of all) if (button !== stop.current) button.tabIndex = -1
    if (!stop.current || !all.includes(stop.current)) stopAt(all[0])
    if (toEnd.current) neighbour(list.current, 'End')?.focus()
    toEnd.current = false
  })

  useEffect(() => {
    if (!more || !end.current || !('IntersectionObserver' in globalThis)) return
    const observer = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) drawn.value += rowsAtOnce
    })
    observer.observe(end.current)
    return () => observer.disconnect()
  }, [more, drawn.value])

  const key = (event: TargetedKeyboardEvent<HTMLUListElement>) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return
    if (event.key === 'End' && more) {
      toEnd.current = true
      drawn.value = Number.POSITIVE_INFINITY
      event.preventDefault()
      return
    }
    const to = neighbour(list.current, event.key)
    if (!to) return
    event.preventDefault()
    to.focus()
  }

  const focus = (event: TargetedFocusEvent<HTMLUListElement>) => {
    const button = (event.target as Element).closest('button')
    if (button) stopAt(button)
  }

  return (
    <ul ref={list} class="rows" onKeyDown={key} onFocusIn={focus}>
      {items.slice(0, drawn.value).map(children)}
      {more && <li ref={end} class="rows-end" aria-hidden="true" />}
    </ul>
  )
}

function buttonsIn(element: Element | null | undefined): HTMLButtonElement[] {
  return [...(element?.querySelectorAll<HTMLButtonElement>('button:not(:disabled)') ?? [])]
}

/** Those that can have the focus: a narrow list hides some. */
function shownIn(element: Element | undefined): HTMLButtonElement[] {
  return buttonsIn(element).filter((button) => getComputedStyle(button).display !== 'none')
}

/** The button that this key goes to from the one that has the focus. */
function neighbour(list: Element | null, key: string): HTMLButtonElement | undefined {
  const from = document.activeElement
  const rows = [...(list?.querySelectorAll('li.row') ?? [])]
  const row = rows.findIndex((one) => one.contains(from))
  const buttons = shownIn(rows[row])
  const column = buttons.indexOf(from as HTMLButtonElement)
  if (row < 0 || column < 0) return undefined
  const along = document.documentElement.dir === 'rtl' ? -1 : 1
  const inRow = (to: number) => {
    const there = shownIn(rows[to])
    return there[Math.min(column, there.length - 1)]
  }
  switch (key) {
    case 'ArrowDown':
      return inRow(row + 1)
    case 'ArrowUp':
      return inRow(row - 1)
    case 'ArrowRight':
      return buttons[column + along]
    case 'ArrowLeft':
      return buttons[column - along]
    case 'Home':
      return inRow(0)
    case 'End':
      return inRow(rows.length - 1)
    default:
      return undefined
  }
}
