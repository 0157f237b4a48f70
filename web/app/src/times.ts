// Times and durations as people write them.

/** 75 s → "1:15", 3,675 s → "1:01:15". */
export function clock(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds))
  const two = (n: number) => String(n).padStart(2, '0')
  const hours = Math.floor(s / 3600)
  const minutes = Math.floor(s / 60) % 60
  return hours > 0 ? `${hours}:${two(minutes)}:${two(s % 60)}` : `${minutes}:${two(s % 60)}`
}

/**
 * 42.9 s → "42 sec", 1,275 s → "21 min", 4,510 s → "1 hr 15 min": for what is over, beside dates, where 21:15 would be a
 * time of day. Begun units do not count, as on the clock of the call.
 */
export function length(seconds: number, language: string): string {
  const part = (value: number, unit: 'hour' | 'minute' | 'second') =>
    new Intl.NumberFormat(language, { style: 'unit', unit, unitDisplay: 'short' }).format(value)
  const s = Math.max(0, Math.floor(seconds))
  if (s < 60) return part(s, 'second')
  const minutes = Math.floor(s / 60)
  if (minutes < 60) return part(minutes, 'minute')
  const rest = minutes % 60
  const hours = part(Math.floor(minutes / 60), 'hour')
  return rest === 0 ? hours : `${hours} ${part(rest, 'minute')}`
}

/** When a call was: the time today, "yesterday", the weekday within a week, else the date. */
export function when(date: Date, now: Date, language: string): string {
  const midnight = (d: Date) => new Date(d.getFullYear(), d.getMonth(), d.getDate()).getTime()
  const days = Math.round((midnight(now) - midnight(date)) / 86_400_000)
  if (days <= 0) return date.toLocaleTimeString(language, { hour: 'numeric', minute: '2-digit' })
  if (days === 1)
    return new Intl.RelativeTimeFormat(language, { numeric: 'auto' }).format(-1, 'day')
  if (days < 7) return date.toLocaleDateString(language, { weekday: 'long' })
  return date.toLocaleDateString(language, {
    day: 'numeric',
    month: 'short',
    ...(date.getFullYear() === now.getFullYear() ? {} : { year: 'numeric' }),
  })
}
