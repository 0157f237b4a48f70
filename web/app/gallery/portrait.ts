// A painted person on a canvas, for want of a camera.

export interface Sitter {
  readonly wall: [string, string]
  readonly lamp: string
  readonly skin: string
  readonly shade: string
  readonly hair: string
  readonly clothes: string
  readonly longHair: boolean
}

export const bob: Sitter = {
  wall: ['#d9c7b0', '#8d7660'],
  lamp: '#ffe6b8',
  skin: '#c98f6b',
  shade: '#a96f4f',
  hair: '#2b211c',
  clothes: '#35506b',
  longHair: false,
}

export const ann: Sitter = {
  wall: ['#9fb3ad', '#5b716d'],
  lamp: '#e9fff4',
  skin: '#e6b99a',
  shade: '#c8957a',
  hair: '#6b3f24',
  clothes: '#8b3f4a',
  longHair: true,
}

/** Somebody in front of a white wall, in a white shirt. */
export const snow: Sitter = {
  wall: ['#ffffff', '#f4f4f2'],
  lamp: '#ffffff',
  skin: '#f6dccb',
  shade: '#ecc9b4',
  hair: '#e9dcc0',
  clothes: '#ffffff',
  longHair: false,
}

/** The picture of a sitter, moving a little where it may. */
export function portrait(
  sitter: Sitter,
  width: number,
  height: number,
  moving = true,
): MediaStream {
  const canvas = document.createElement('canvas')
  canvas.width = width
  canvas.height = height
  const context = canvas.getContext('2d')
  if (!context) return new MediaStream()
  let step = 0
  const draw = () => paint(context, sitter, width, height, step++)
  draw()
  if (moving) setInterval(draw, 150)
  return canvas.captureStream(10)
}

function paint(c: CanvasRenderingContext2D, s: Sitter, w: number, h: number, step: number): void {
  const wall = c.createLinearGradient(0, 0, w, h)
  wall.addColorStop(0, s.wall[0])
  wall.addColorStop(1, s.wall[1])
  c.fillStyle = wall
  c.fillRect(0, 0, w, h)

  // A window with evening light, a shelf, a plant.
  c.save()
  c.filter = `blur(${h * 0.012}px)`
  const light = c.createRadialGradient(w * 0.12, h * 0.25, 0, w * 0.12, h * 0.25, h * 0.75)
  light.addColorStop(0, s.lamp)
  light.addColorStop(1, 'transparent')
  c.fillStyle = light
  c.fillRect(0, 0, w, h)
  c.fillStyle = 'rgb(60 45 35 / 0.55)'
  c.fillRect(w * 0.74, h * 0.34, w * 0.3, h * 0.025)
  for (const [x, tall, colour] of [
    [0.77, 0.16, '#7d3b33'],
    [0.8, 0.2, '#2f5d62'],
    [0.835, 0.14, '#b98b4a'],
    [0.87, 0.18, '#4c4a6b'],
  ] as const) {
    c.fillStyle = colour
    c.fillRect(w * x, h * (0.34 - tall), w * 0.026, h * tall)
  }
  c.fillStyle = '#3f6b4a'
  for (let i = 0; i < 7; i++) {
    c.beginPath()
    c.ellipse(
      w * 0.08 + i * w * 0.012,
      h * 0.72 - (i % 3) * h * 0.06,
      w * 0.02,
      h * 0.1,
      i - 3,
      0,
      7,
    )
    c.fill()
  }
  c.restore()

  const sway = Math.sin(step / 9) * h * 0.006
  const x = w / 2 + sway
  const u = Math.min(h, w * 1.25) / 100
  const y = h - 52 * u
  c.save()
  c.translate(x, y)
  c.scale(u, u)
  if (s.longHair) ellipse(c, s.hair, 0, -4, 21, 27)
  // Shoulders, neck, head.
  c.fillStyle = s.clothes
  c.beginPath()
  c.moveTo(-46, 56)
  c.bezierCurveTo(-44, 26, -24, 24, -9, 21)
  c.lineTo(9, 21)
  c.bezierCurveTo(24, 24, 44, 26, 46, 56)
  c.fill()
  c.fillStyle = s.shade
  c.beginPath()
  c.moveTo(-8, 8)
  c.lineTo(-9, 22)
  c.quadraticCurveTo(0, 30, 9, 22)
  c.lineTo(8, 8)
  c.fill()
  ellipse(c, s.shade, -16.4, -6, 2.6, 4.2)
  ellipse(c, s.shade, 16.4, -6, 2.6, 4.2)
  const face = c.createLinearGradient(-18, -20, 18, 16)
  face.addColorStop(0, s.skin)
  face.addColorStop(1, s.shade)
  c.fillStyle = face
  c.beginPath()
  c.ellipse(0, -6, 16, 20.5, 0, 0, 7)
  c.fill()
  // Hair over the brow.
  c.fillStyle = s.hair
  c.beginPath()
  c.moveTo(-17, -6)
  c.bezierCurveTo(-21, -34, 21, -34, 17, -6)
  c.bezierCurveTo(15, -16, 8, -20, -2, -19)
  c.bezierCurveTo(-9, -18.5, -15, -15, -17, -6)
  c.fill()
  // Eyes that blink, brows, nose, a smile.
  const shut = step % 28 === 0
  for (const side of [-1, 1]) {
    ellipse(c, '#fff', side * 6.2, -6.5, 2.5, shut ? 0.2 : 1.6)
    if (!shut) ellipse(c, '#2a1c14', side * 6.2 + sway / u / 3, -6.5, 1.3, 1.4)
    stroke(c, s.hair, 1.1, () => {
      c.moveTo(side * 3.6, -10.6)
      c.quadraticCurveTo(side * 6.4, -12, side * 9.2, -10.4)
    })
  }
  stroke(c, s.shade, 1, () => {
    c.moveTo(0.6, -5)
    c.quadraticCurveTo(2.8, 0.6, -0.8, 1.2)
  })
  stroke(c, '#8a3f3a', 1.2, () => {
    c.moveTo(-5, 5.4)
    c.quadraticCurveTo(0, 9.4, 5, 5.4)
  })
  c.restore()
}

function ellipse(
  c: CanvasRenderingContext2D,
  fill: string,
  x: number,
  y: number,
  rx: number,
  ry: number,
) {
  c.fillStyle = fill
  c.beginPath()
  c.ellipse(x, y, rx, ry, 0, 0, 7)
  c.fill()
}

function stroke(c: CanvasRenderingContext2D, colour: string, width: number, path: () => void) {
  c.strokeStyle = colour
  c.lineWidth = width
  c.lineCap = 'round'
  c.beginPath()
  path()
  c.stroke()
}
