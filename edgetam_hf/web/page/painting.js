/** Masks painted into pixels, row by row, without a canvas. */
import { areaOf, boxOf, columnPieces } from "./runs.js";

/** @typedef {import("../types.js").Size} Size */
/** @typedef {import("./engine.js").Found} Found */
/** @typedef {Uint8Array | Uint8ClampedArray | Uint16Array} Levels */

const TINT = 0.45; // weight of an object's colour
const LINES = 500; // a picture is as long as that many lines are wide

/**
 * The id of the object on top at each pixel, 0 where there is none. Smaller objects lie on top of larger ones.
 *
 * @param {readonly Found[]} objects
 * @param {Size} size
 * @returns {Uint16Array} (height, width)
 */
export function topmost(objects, size) {
  const ids = new Uint16Array(size.width * size.height);
  const areas = new Map(objects.map((found) => [found, areaOf(found.runs)]));
  const sorted = [...objects].sort((one, other) => Number(areas.get(other)) - Number(areas.get(one)));
  for (const { runs, objectId } of sorted) {
    for (const [x, top, end] of columnPieces(runs, size)) {
      for (let i = top * size.width + x; i < end * size.width; i += size.width) ids[i] = objectId;
    }
  }
  return ids;
}

/**
 * Lays objects over a picture, in place: a tint, and a line along the border.
 *
 * @param {Uint8ClampedArray} pixels RGBA (height, width, 4)
 * @param {readonly Found[]} objects
 * @param {ReadonlyMap<number, readonly number[]>} colours [red, green, blue] by object id
 * @param {Size} size
 */
export function paintObjects(pixels, objects, colours, size) {
  const ids = topmost(objects, size);
  const isLine = borders(ids, size, Math.max(1, Math.round(Math.max(size.width, size.height) / LINES)));
  for (let i = 0; i < ids.length; i++) {
    const colour = ids[i] ? colours.get(ids[i]) : undefined;
    if (!colour) continue;
    const weight = isLine[i] ? 1 : TINT;
    for (let channel = 0; channel < 3; channel++) {
      pixels[4 * i + channel] += weight * (colour[channel] - pixels[4 * i + channel]);
    }
  }
}

/**
 * 1 where a neighbour at a distance, to the side or above or below, has another id.
 *
 * @param {Uint16Array} ids
 * @param {Size} size
 * @param {number} distance
 */
function borders(ids, { width, height }, distance) {
  const isBorder = new Uint8Array(ids.length);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const id = ids[i];
      const isInside = id === 0 || (
        (x < distance || ids[i - distance] === id) && (x + distance >= width || ids[i + distance] === id)
        && (y < distance || ids[i - distance * width] === id)
        && (y + distance >= height || ids[i + distance * width] === id)
      );
      isBorder[i] = isInside ? 0 : 1;
    }
  }
  return isBorder;
}

/**
 * Clears the pixels of a cut-out that are not on the object, in place.
 *
 * @param {Uint8ClampedArray} pixels RGBA of the object's box, row by row
 * @param {Uint32Array} runs
 * @param {Size} size of the picture
 */
export function clearAround(pixels, runs, size) {
  const [left, top, width] = boxOf(runs, size);
  const isOn = new Uint8Array(pixels.length / 4);
  for (const [x, first, end] of columnPieces(runs, size)) {
    for (let y = first; y < end; y++) isOn[(y - top) * width + x - left] = 1;
  }
  for (let i = 0; i < isOn.length; i++) if (!isOn[i]) pixels.fill(0, 4 * i, 4 * i + 4);
}
