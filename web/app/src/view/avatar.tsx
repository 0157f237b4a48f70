import { hue, initials } from '../initials.ts'
import type { Person } from '../model/person.ts'

interface Props {
  person: Person
  size: 'small' | 'medium' | 'large'
}

/** The picture of a person who has none. Their name stands beside it, so it is hidden from screen readers. */
export function Avatar({ person, size }: Props) {
  return (
    <span
      class={`avatar avatar-${size} gradient`}
      style={{ '--hue': hue(person.id) }}
      aria-hidden="true"
    >
      {initials(person.name)}
    </span>
  )
}
