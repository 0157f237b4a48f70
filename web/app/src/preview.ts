/**
 * The person's own picture while somebody rings, only where this page was allowed the camera before: nothing is asked.
 * Browsers that cannot say whether it was (Firefox before 131) give none.
 */
export async function preview(): Promise<MediaStream | undefined> {
  if (!('mediaDevices' in navigator) || !('permissions' in navigator)) return undefined
  const { state } = await navigator.permissions.query({ name: 'camera' })
  if (state !== 'granted') return undefined
  return navigator.mediaDevices.getUserMedia({ video: { facingMode: 'user' } })
}
