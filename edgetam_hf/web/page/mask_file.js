/** Masks from picture files: black and white, or a palette with a colour for each object. */
import { encodeRuns } from "./runs.js";

/** @typedef {import("../types.js").Size} Size */

const MOST_COLOURS = 64;
const WHITE = 128; // from this level on a grey pixel is on the object

/**
 * The masks of a picture file, one for each colour but black, from the largest to the smallest.
 *
 * @param {Blob} file
 * @param {string} name of the file
 * @param {Size} size of what is open
 * @returns {Promise<Uint32Array[]>} runs
 */
export async function readMasks(file, name, size) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" }).catch(() => {
    throw new Error(`${name} is not a picture that this browser can read.`);
  });
  if (bitmap.width !== size.width || bitmap.height !== size.height) {
    throw new Error(
      `${name} is ${bitmap.width} x ${bitmap.height}; a mask must be as large as what is open, `
      + `${size.width} x ${size.height}.`,
    );
  }
  const context = new OffscreenCanvas(size.width, size.height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("This browser has no room for the mask.");
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return masksOf(context.getImageData(0, 0, size.width, size.height).data, name, size);
}

/**
 * @param {Uint8ClampedArray} pixels RGBA (height, width, 4)
 * @param {string} name of the file
 * @param {Size} size
 * @returns {Uint32Array[]} runs, from the largest mask to the smallest
 */
export function masksOf(pixels, name, size) {
  const colours = coloursOf(pixels);
  const areas = new Map();
  for (const colour of colours) {
    if (colour) areas.set(colour, (areas.get(colour) ?? 0) + 1);
    if (areas.size > MOST_COLOURS) throw new Error(`${name} is no mask: it has more than ${MOST_COLOURS} colours.`);
  }
  if (areas.size === 0) throw new Error(`${name} is an empty mask: all of it is black.`);
  const sorted = [...areas.keys()].sort((one, other) => areas.get(other) - areas.get(one));
  return sorted.map((colour) => encodeRuns(colours.map((one) => Number(one === colour)), size));
}

/**
 * A number for the colour of each pixel, 0 where it is black or transparent.
 *
 * @param {Uint8ClampedArray} pixels RGBA (height, width, 4)
 */
function coloursOf(pixels) {
  const isWhiteMask = isAllGrey(pixels) && pixels.some((level, i) => i % 4 < 3 && level >= WHITE);
  const colours = new Uint32Array(pixels.length / 4);
  for (let i = 0; i < pixels.length; i += 4) {
    if (pixels[i + 3] < WHITE) continue;
    const colour = (pixels[i] << 16) | (pixels[i + 1] << 8) | pixels[i + 2];
    colours[i / 4] = isWhiteMask ? Number(pixels[i] >= WHITE) : colour;
  }
  return colours;
}

/** @param {Uint8ClampedArray} pixels */
function isAllGrey(pixels) {
  for (let i = 0; i < pixels.length; i += 4) {
    if (pixels[i] !== pixels[i + 1] || pixels[i] !== pixels[i + 2]) return false;
  }
  return true;
}
