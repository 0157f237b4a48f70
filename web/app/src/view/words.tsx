/**
 * A text that changes while it is seen. Each new text is a new element: the translators of browsers put their own
 * elements in the place of a text node, and a node that is changed afterwards is seen by nobody.
 */
export function Words({ children }: { children: string | undefined }) {
  return children === undefined || children === '' ? null : <span key={children}>{children}</span>
}
