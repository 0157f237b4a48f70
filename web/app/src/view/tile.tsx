import { useSignal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import type { Corner, Side } from '../model/layout.ts'
import { t } from '../strings/pick.ts'
import './tile.css'

interface Props extends Omit<HandleProps, 'tile'> {
  label: string
  place: 'stage' | 'corner'
  /** Where it is while its place is the corner. */
  corner: Corner
  stream: MediaStream
  /** There is a picture to show; else what stands behind it. */
  picture: boolean
  /** The picture is an old one. */
  still?: boolean
  mirrored?: boolean
  hidden?: boolean
  /** Can be swapped and moved. */
  movable?: boolean
  /** Lies over the picture. */
  badge?: ComponentChildren
  children?: ComponentChildren
}

/**
 * One person's picture, on the whole stage or small in a corner. It stays the same element when the two are swapped, so
 * that no picture starts anew.
 */
export function Tile({
  label,
  place,
  corner,
  stream,
  picture,
  still,
  mirrored,
  hidden,
  movable,
  badge,
  children,
  ...moves
}: Props) {
  const tile = useRef<HTMLDivElement>(null)
  const video = useRef<HTMLVideoElement>(null)
  const size = useSignal({ width: 0, height: 0 })
  const track = stream.getTracks().find(({ kind }) => kind === 'video')

  // Another track may need a new start, and so may an element that is seen only now.
  useEffect(() => {
    const element = video.current
    if (!element) return
    if (element.srcObject !== stream) element.srcObject = stream
    element.play().catch(() => undefined)
  }, [stream, track, hidden])

  const measure = () => {
    const element = video.current
    if (element) size.value = { width: element.videoWidth, height: element.videoHeight }
  }
  const { width, height } = size.value
  const shape = width === 0 ? 'none' : height > width ? 'portrait' : 'landscape'

  return (
    <section
      ref={tile}
      class="tile"
      hidden={hidden}
      aria-label={label}
      data-place={place}
      data-corner={place === 'corner' ? corner : undefined}
      data-shape={shape}
      data-picture={picture && shape !== 'none'}
      data-still={still}
    >
      <div class="tile-behind">{children}</div>
      <video
        ref={video}
        class={mirrored ? 'mirrored' : undefined}
        autoPlay
        playsInline
        muted
        disablePictureInPicture={mirrored ?? false}
        onLoadedMetadata={measure}
        onResize={measure}
      />
      {badge}
      {place === 'corner' && movable && <Handle tile={tile} {...moves} />}
    </section>
  )
}

interface HandleProps {
  tile: { current: HTMLElement | null }
  onSwap: () => void
  /** Moves the small picture to the next corner on this side. */
  onNudge: (side: Side) => void
  onMove: (corner: Corner) => void
}

// Pressed: the pictures swap. Dragged or with the arrow keys: the small one moves to another corner.
function Handle({ tile, onSwap, onNudge, onMove }: HandleProps) {
  const from = useRef<{ x: number; y: number; moved: boolean } | undefined>(undefined)
  const swallow = useRef(false)

  const settle = (corner: Corner) => {
    const element = tile.current
    if (!element) return
    const before = element.getBoundingClientRect()
    element.style.removeProperty('translate')
    onMove(corner)
    // After the next drawing the tile stands in its corner: from where it was it glides there.
    requestAnimationFrame(() => {
      const after = element.getBoundingClientRect()
      if (matchMedia('(prefers-reduced-motion: reduce)').matches) return
      const offset = `${before.left - after.left}px ${before.top - after.top}px`
      element.animate([{ translate: offset }, { translate: '0 0' }], {
        duration: 180,
        easing: 'ease-out',
      })
    })
  }

  return (
    <button
      class="tile-handle"
      type="button"
      aria-label={t.call.swap}
      onPointerDown={(event) => {
        from.current = { x: event.clientX, y: event.clientY, moved: false }
        event.currentTarget.setPointerCapture(event.pointerId)
      }}
      onPointerMove={(event) => {
        const start = from.current
        if (!start || !tile.current) return
        const x = event.clientX - start.x
        const y = event.clientY - start.y
        start.moved ||= Math.hypot(x, y) > 6
        if (start.moved) tile.current.style.setProperty('translate', `${x}px ${y}px`)
      }}
      onPointerUp={(event) => {
        const start = from.current
        from.current = undefined
        if (!start?.moved || !tile.current) return
        swallow.current = true
        const box = tile.current.getBoundingClientRect()
        const vertical = box.top + box.height / 2 < innerHeight / 2 ? 'top' : 'bottom'
        const horizontal = box.left + box.width / 2 < innerWidth / 2 ? 'left' : 'right'
        event.preventDefault()
        settle(`${vertical}-${horizontal}`)
      }}
      onPointerCancel={() => {
        from.current = undefined
        tile.current?.style.removeProperty('translate')
      }}
      onClick={() => {
        if (!swallow.current) onSwap()
        swallow.current = false
      }}
      onKeyDown={(event) => {
        const side = arrows[event.key]
        if (!side) return
        event.preventDefault()
        onNudge(side)
      }}
    />
  )
}

const arrows: Record<string, Side> = {
  ArrowLeft: 'left',
  ArrowRight: 'right',
  ArrowUp: 'top',
  ArrowDown: 'bottom',
}
