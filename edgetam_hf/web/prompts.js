/**
 * What users point at, in the frame of the model input.
 *
 * (H, W) is the model input; O objects, N points of an object.
 */
import { describe, readList, readNumbers } from "./checks.js";
import { resize } from "./resize.js";

/** @typedef {import("./types.js").Clicks} Clicks */
/** @typedef {import("./types.js").PromptInput} PromptInput */
/** @typedef {import("./types.js").Size} Size */

const BOX_CORNER_LABELS = [2, 3]; // top left, bottom right
export const ON_OBJECT_LABEL = 1;

/**
 * How many objects prompts describe, of which all kinds must describe equally many.
 *
 * @param {Record<string, unknown>} prompts lists by name; those that are missing do not count
 * @returns {number}
 */
export function countObjects(prompts) {
  const given = Object.entries(prompts).filter(([, value]) => value !== undefined && value !== null);
  const counts = given.map(([name, value]) => readList(value, name, "a list with an entry for each object").length);
  if (counts.length === 0 || Math.max(...counts) === 0) {
    throw new RangeError("no prompt was given: give points, boxes or masks");
  }
  if (new Set(counts).size > 1) {
    const names = given.map(([name]) => name);
    throw new RangeError(
      `${names.join(" and ")} of one call must describe equally many objects, got ${counts.join(" and ")}; write ` +
        "null for an object that has none of a kind",
    );
  }
  return counts[0];
}

/**
 * Clicks of each object, those of a box first; none for an object that has neither.
 *
 * @param {PromptInput} prompts
 * @param {number} numObjects
 * @param {Size} size of the picture
 * @param {Size} inputSize of the model input
 * @returns {Clicks[]}
 */
export function readClicks({ points, labels, boxes }, numObjects, size, inputSize) {
  if (labels && !points) throw new TypeError("labels were given without points: give the points that they belong to");
  // a product with the reciprocal, in single precision, rounds as the processor does in Python
  const scale = [inputSize.width, inputSize.height].map((side, i) => {
    return Math.fround(Math.fround(1 / (i === 0 ? size.width : size.height)) * side);
  });
  return Array.from({ length: numObjects }, (_, object) => {
    const box = boxes?.[object] ? readBox(boxes[object], `boxes[${object}]`) : [];
    const clicks = points?.[object] ? readPoints(points[object], `points[${object}]`) : [];
    const clickLabels = readLabels(labels?.[object], clicks.length, object);
    const coordinates = Float32Array.from([...box, ...clicks.flat()], (value, i) => Math.fround(value) * scale[i % 2]);
    return { points: coordinates, labels: [...(box.length ? BOX_CORNER_LABELS : []), ...clickLabels] };
  });
}

/**
 * @param {unknown} box
 * @param {string} name
 * @returns {number[]}
 */
function readBox(box, name) {
  const corners = readNumbers(box, 4, name, "[x_min, y_min, x_max, y_max]");
  if (corners[2] < corners[0] || corners[3] < corners[1]) {
    throw new RangeError(
      `${name} must be [x_min, y_min, x_max, y_max] with x_min <= x_max and y_min <= y_max, ` +
        `[${corners.join(", ")}] is turned inside out`,
    );
  }
  return corners;
}

/**
 * @param {unknown} points
 * @param {string} name
 * @returns {number[][]}
 */
function readPoints(points, name) {
  return readList(points, name, "the points [x, y] of an object").map((point, i) => {
    return readNumbers(point, 2, `${name}[${i}]`, "[x, y] (points are nested as [object][point][x, y])");
  });
}

/**
 * @param {unknown} labels
 * @param {number} numPoints
 * @param {number} object
 * @returns {number[]}
 */
function readLabels(labels, numPoints, object) {
  if (labels === undefined || labels === null) return new Array(numPoints).fill(ON_OBJECT_LABEL);
  const list = readList(labels, `labels[${object}]`, "a list with a label for each point");
  if (list.length !== numPoints) {
    throw new RangeError(
      `labels[${object}] has ${list.length} entries, but points[${object}] has ${numPoints}: give one label per point`,
    );
  }
  const unknown = list.find((label) => label !== 0 && label !== 1);
  if (unknown !== undefined) {
    throw new RangeError(`labels may be 1 (on the object) and 0 (off the object), got ${describe(unknown)}`);
  }
  return /** @type {number[]} */ (list);
}

/**
 * Whether there is a box among clicks.
 *
 * @param {Clicks} clicks
 */
export function hasBox(clicks) {
  return clicks.labels.includes(BOX_CORNER_LABELS[0]);
}

/**
 * A mask of a frame at the size of the model input, 0 and 1.
 *
 * @param {any} mask a number per pixel, row by row: those of floats are from 0 to 1, of integers all above 0 count; or
 *     an object with these as `pixels` or `data`
 * @param {Size} size of the frame
 * @param {Size} inputSize of the model input
 * @param {string} name
 * @returns {Uint8Array}
 */
export function readMask(mask, size, inputSize, name) {
  const pixels = mask?.pixels ?? mask?.data ?? mask;
  const numPixels = size.width * size.height;
  if (!(Array.isArray(pixels) || ArrayBuffer.isView(pixels)) || /** @type {any} */ (pixels).length !== numPixels) {
    throw new TypeError(
      `${name} must have a number for each pixel of a frame of ${size.width} x ${size.height}, ${numPixels} of them, ` +
        `got ${describe(pixels)}`,
    );
  }
  const isFloat = pixels instanceof Float32Array || pixels instanceof Float64Array;
  const coverage = Float32Array.from(/** @type {ArrayLike<number>} */ (/** @type {unknown} */ (pixels)), (value) => {
    return isFloat ? Math.min(Math.max(value, 0), 1) : Number(value > 0);
  });
  if (coverage.some(Number.isNaN)) throw new RangeError(`${name} has pixels that are not numbers`);
  const resized = resize({ data: coverage, ...size, channels: 1 }, inputSize.width, inputSize.height);
  return Uint8Array.from(resized.data, (value) => Number(value >= 0.5));
}
