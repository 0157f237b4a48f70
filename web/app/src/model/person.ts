/** Somebody who can be called, as calls, lists and settings name them. */
export interface Person {
  readonly id: string
  readonly name: string
}
