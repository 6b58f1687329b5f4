/** Masks as small canvases, which are drawn over a frame: a tint, and a line along the border. */
import { areaOf, boxOf, columnPieces } from "./runs.js";

/** @typedef {import("../types.js").Size} Size */

/**
 * @typedef {object} MaskPicture
 * @property {OffscreenCanvas} canvas
 * @property {number} left of the canvas in the picture, in its pixels
 * @property {number} top
 * @property {number} step pixels of the picture to a pixel of the canvas
 */

const TINT = 0.42;

const LARGEST = 2e6; // pixels of a mask as it is drawn; of larger ones every second is left out, or more
const MOST_KEPT = 48e6; // pixels of all masks that are kept

/** @type {Map<Uint32Array, Map<string, MaskPicture>>} as they were drawn last */
const drawn = new Map();
let numKept = 0;

/**
 * Draws a mask in a colour over a picture.
 *
 * @param {CanvasRenderingContext2D} context in pixels of the picture
 * @param {Uint32Array} runs
 * @param {readonly number[]} colour [red, green, blue]
 * @param {Size} size of the picture
 * @param {number} [tint] opacity of the inside
 */
export function drawMask(context, runs, colour, size, tint = TINT) {
  if (areaOf(runs) === 0) return;
  const pictures = drawn.get(runs) ?? new Map();
  drawn.delete(runs);
  drawn.set(runs, pictures);
  const key = `${colour.join()} ${tint}`;
  if (!pictures.has(key)) pictures.set(key, keep(paint(runs, colour, size, tint)));
  const { canvas, left, top, step } = pictures.get(key);
  context.drawImage(canvas, left, top, step * canvas.width, step * canvas.height);
}

/**
 * Counts a picture, and forgets those that were drawn longest ago if there are too many.
 *
 * @param {MaskPicture} picture
 */
function keep(picture) {
  numKept += picture.canvas.width * picture.canvas.height;
  for (const [runs, old] of drawn) {
    if (numKept <= MOST_KEPT || drawn.size === 1) break;
    for (const { canvas } of old.values()) numKept -= canvas.width * canvas.height;
    drawn.delete(runs);
  }
  return picture;
}

/**
 * @param {Uint32Array} runs
 * @param {readonly number[]} colour
 * @param {Size} size
 * @param {number} tint
 * @returns {MaskPicture}
 */
function paint(runs, [red, green, blue], size, tint) {
  const [left, top, fullWidth, fullHeight] = boxOf(runs, size);
  const step = Math.max(1, Math.ceil(Math.sqrt((fullWidth * fullHeight) / LARGEST)));
  const [width, height] = [Math.ceil(fullWidth / step), Math.ceil(fullHeight / step)];
  const isOn = new Uint8Array(width * height);
  for (const [x, start, end] of columnPieces(runs, size)) {
    if ((x - left) % step > 0) continue;
    const column = (x - left) / step;
    const last = Math.ceil((end - top) / step);
    for (let y = Math.ceil((start - top) / step); y < last; y++) isOn[y * width + column] = 1;
  }
  const line = Math.max(1, Math.round(Math.max(size.width, size.height) / step / 640));
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const solid = pack(red, green, blue, 255);
  const inside = pack(red, green, blue, Math.round(255 * tint));
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (isOn[i]) pixels[i] = isBorder(isOn, x, y, line, width, height) ? solid : inside;
    }
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d")?.putImageData(image, 0, 0);
  return { canvas, left, top, step };
}

/**
 * @param {Uint8Array} isOn (height, width)
 * @param {number} x
 * @param {number} y
 * @param {number} line width of the border
 * @param {number} width
 * @param {number} height
 */
function isBorder(isOn, x, y, line, width, height) {
  const i = y * width + x;
  return x < line || y < line || x >= width - line || y >= height - line
    || !isOn[i - line] || !isOn[i + line] || !isOn[i - line * width] || !isOn[i + line * width];
}

/**
 * A pixel as it lies in memory, red first.
 *
 * @param {number} red
 * @param {number} green
 * @param {number} blue
 * @param {number} alpha
 */
function pack(red, green, blue, alpha) {
  return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}
