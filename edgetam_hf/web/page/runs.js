/**
 * Masks as run lengths, as COCO has them: how many pixels are off, on, off, on …, column by column from the top left.
 *
 * Runs are Uint32Array and add up to width x height. An empty mask is one run.
 */

/** @typedef {import("../types.js").Size} Size */

/**
 * Runs of pixels (height, width), row by row, which are on where they are not 0.
 *
 * @param {ArrayLike<number>} pixels
 * @param {Size} size
 * @returns {Uint32Array}
 */
export function encodeRuns(pixels, { width, height }) {
  const runs = [];
  let value = 0;
  let length = 0;
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) {
      const isOn = pixels[y * width + x] ? 1 : 0;
      if (isOn !== value) {
        runs.push(length);
        length = 0;
        value = isOn;
      }
      length++;
    }
  }
  runs.push(length);
  return Uint32Array.from(runs);
}

/**
 * Pixels (height, width), row by row: 1 on the object, 0 elsewhere.
 *
 * @param {Uint32Array} runs
 * @param {Size} size
 * @returns {Uint8Array}
 */
export function decodeRuns(runs, { width, height }) {
  const pixels = new Uint8Array(width * height);
  for (const [x, top, end] of columnPieces(runs, { width, height })) {
    for (let i = top * width + x; i < end * width; i += width) pixels[i] = 1;
  }
  return pixels;
}

/**
 * Where the mask is, [first, past the last] in pixels counted column by column.
 *
 * @param {Uint32Array} runs
 * @returns {Generator<[number, number], void>}
 */
export function* stretches(runs) {
  let position = 0;
  for (let i = 0; i < runs.length; i++) {
    if (i % 2 === 1 && runs[i] > 0) yield [position, position + runs[i]];
    position += runs[i];
  }
}

/**
 * Where the mask is, column by column: [x, first y, past the last y].
 *
 * @param {Uint32Array} runs
 * @param {Size} size
 * @returns {Generator<[number, number, number], void>}
 */
export function* columnPieces(runs, { height }) {
  for (const [start, end] of stretches(runs)) {
    for (let position = start; position < end; ) {
      const x = Math.floor(position / height);
      const next = Math.min(end, (x + 1) * height);
      yield [x, position - x * height, next - x * height];
      position = next;
    }
  }
}

/**
 * Number of pixels of a mask.
 *
 * @param {Uint32Array} runs
 */
export function areaOf(runs) {
  let area = 0;
  for (let i = 1; i < runs.length; i += 2) area += runs[i];
  return area;
}

/**
 * Runs of what two masks make of each pixel, both, either or only one of them.
 *
 * @param {Uint32Array} one
 * @param {Uint32Array} other of the same size
 * @param {(isOne: boolean, isOther: boolean) => boolean} isOn
 * @returns {Uint32Array}
 */
export function combineRuns(one, other, isOn) {
  const runs = [];
  let [i, j, leftOfOne, leftOfOther] = [0, 0, one[0], other[0]];
  let [value, length] = [false, 0];
  while (i < one.length && j < other.length) {
    const step = Math.min(leftOfOne, leftOfOther);
    if (step > 0 && isOn(i % 2 === 1, j % 2 === 1) !== value) {
      runs.push(length);
      [value, length] = [!value, 0];
    }
    length += step;
    leftOfOne -= step;
    leftOfOther -= step;
    if (leftOfOne === 0) leftOfOne = one[++i];
    if (leftOfOther === 0) leftOfOther = other[++j];
  }
  runs.push(length);
  return Uint32Array.from(runs);
}

/**
 * Box [left, top, width, height] of a mask, as COCO has it; zeros for an empty one.
 *
 * @param {Uint32Array} runs
 * @param {Size} size
 * @returns {number[]}
 */
export function boxOf(runs, { width, height }) {
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (const [start, end] of stretches(runs)) {
    const [first, last] = [Math.floor(start / height), Math.floor((end - 1) / height)];
    left = Math.min(left, first);
    right = Math.max(right, last);
    top = last > first ? 0 : Math.min(top, start % height);
    bottom = last > first ? height - 1 : Math.max(bottom, (end - 1) % height);
  }
  return right < 0 ? [0, 0, 0, 0] : [left, top, right - left + 1, bottom - top + 1];
}

/**
 * Whether a pixel is on the object.
 *
 * @param {Uint32Array} runs
 * @param {number} x
 * @param {number} y
 * @param {Size} size
 */
export function isOnMask(runs, x, y, { width, height }) {
  if (x < 0 || y < 0 || x >= width || y >= height) return false;
  const pixel = Math.floor(x) * height + Math.floor(y);
  let position = 0;
  for (let i = 0; i < runs.length; i++) {
    position += runs[i];
    if (pixel < position) return i % 2 === 1;
  }
  return false;
}
