/** Masks as small canvases, which are drawn over a frame: a tint, and a line along the border. */
import { areaOf, boxOf, columnPieces } from "./runs.js";

/** @typedef {import("../types.js").Size} Size */

/**
 * @typedef {object} MaskPicture
 * @property {OffscreenCanvas} canvas
 * @property {number} left of the canvas in the picture, in its pixels
 * @property {number} top
 */

const TINT = 0.42;

/** @type {WeakMap<Uint32Array, Map<string, MaskPicture | null>>} */
const drawn = new WeakMap();

/**
 * A mask in a colour, `null` of an empty one.
 *
 * @param {Uint32Array} runs
 * @param {readonly number[]} colour [red, green, blue]
 * @param {Size} size of the picture
 * @param {number} [tint] opacity of the inside
 * @returns {MaskPicture | null}
 */
export function pictureOf(runs, colour, size, tint = TINT) {
  const known = drawn.get(runs) ?? new Map();
  drawn.set(runs, known);
  const key = `${colour.join()} ${tint}`;
  if (!known.has(key)) known.set(key, areaOf(runs) > 0 ? draw(runs, colour, size, tint) : null);
  return known.get(key) ?? null;
}

/**
 * @param {Uint32Array} runs
 * @param {readonly number[]} colour
 * @param {Size} size
 * @param {number} tint
 * @returns {MaskPicture}
 */
function draw(runs, [red, green, blue], size, tint) {
  const [left, top, width, height] = boxOf(runs, size);
  const isOn = new Uint8Array(width * height);
  for (const [x, start, end] of columnPieces(runs, size)) {
    for (let y = start - top; y < end - top; y++) isOn[y * width + x - left] = 1;
  }
  const line = Math.max(1, Math.round(Math.max(size.width, size.height) / 640));
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
  return { canvas, left, top };
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
