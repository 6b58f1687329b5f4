/**
 * Pictures and masks at another size.
 *
 * Pixels lie row by row, the channels of a pixel side by side. Sizes are in pixels.
 */

/**
 * @template {Uint8ClampedArray | Float32Array} T
 * @typedef {object} Pixels
 * @property {T} data (height, width, channels)
 * @property {number} width
 * @property {number} height
 * @property {number} channels
 */

/**
 * @typedef {object} LineWeights
 * @property {Int32Array} starts for each new pixel the first old one that counts
 * @property {Int32Array} counts how many of them count
 * @property {Float64Array} weights how much, `stride` places for each new pixel
 * @property {number} stride
 */

/**
 * Pixels at another size: bilinear, and where it shrinks an average of all that a new pixel covers (antialiasing).
 *
 * This is the filter of Python's processor. Browsers shrink by filters of their own, which differ from one another.
 * Bytes stay bytes, rounded after each of the two directions, and floats stay floats.
 *
 * @template {Uint8ClampedArray | Float32Array} T
 * @param {Pixels<T>} pixels
 * @param {number} width
 * @param {number} height
 * @returns {Pixels<T>}
 */
export function resize(pixels, width, height) {
  const narrowed = pixels.width === width ? pixels : resizeRows(pixels, width);
  return narrowed.height === height ? narrowed : resizeColumns(narrowed, height);
}

/**
 * @template {Uint8ClampedArray | Float32Array} T
 * @param {Pixels<T>} pixels
 * @param {number} width
 * @returns {Pixels<T>}
 */
function resizeRows({ data, width: oldWidth, height, channels }, width) {
  const line = lineWeights(oldWidth, width);
  const result = emptyLike(data, width * height * channels);
  const finish = finisher(result, line);
  const { starts, counts, weights, stride } = line;
  const sums = new Float64Array(width * channels);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const first = (y * oldWidth + starts[x]) * channels;
      for (let channel = 0; channel < channels; channel++) {
        let sum = 0;
        for (let k = 0; k < counts[x]; k++) sum += data[first + k * channels + channel] * weights[x * stride + k];
        sums[x * channels + channel] = sum;
      }
    }
    finish(sums, y * sums.length);
  }
  return { data: result, width, height, channels };
}

/**
 * @template {Uint8ClampedArray | Float32Array} T
 * @param {Pixels<T>} pixels
 * @param {number} height
 * @returns {Pixels<T>}
 */
function resizeColumns({ data, width, height: oldHeight, channels }, height) {
  const line = lineWeights(oldHeight, height);
  const result = emptyLike(data, width * height * channels);
  const finish = finisher(result, line);
  const { starts, counts, weights, stride } = line;
  const sums = new Float64Array(width * channels);
  for (let y = 0; y < height; y++) {
    sums.fill(0);
    for (let k = 0; k < counts[y]; k++) {
      const first = (starts[y] + k) * sums.length;
      const weight = weights[y * stride + k];
      for (let i = 0; i < sums.length; i++) sums[i] += data[first + i] * weight;
    }
    finish(sums, y * sums.length);
  }
  return { data: result, width, height, channels };
}

/**
 * Weights of the pixels of a line in each pixel of a line of another length; those of each new pixel add up to 1.
 *
 * @param {number} size
 * @param {number} newSize
 * @returns {LineWeights}
 */
function lineWeights(size, newSize) {
  const scale = size / newSize;
  const reach = Math.max(scale, 1); // a new pixel sees old ones whose centres are nearer than this
  const stride = Math.ceil(reach) * 2 + 1;
  const starts = new Int32Array(newSize);
  const counts = new Int32Array(newSize);
  const weights = new Float64Array(newSize * stride);
  for (let i = 0; i < newSize; i++) {
    const centre = (i + 0.5) * scale;
    starts[i] = Math.max(0, Math.floor(centre - reach + 0.5));
    counts[i] = Math.min(size, Math.floor(centre + reach + 0.5)) - starts[i];
    let total = 0;
    for (let k = 0; k < counts[i]; k++) {
      const distance = Math.abs(starts[i] + k + 0.5 - centre) / reach;
      weights[i * stride + k] = Math.max(0, 1 - distance);
      total += weights[i * stride + k];
    }
    for (let k = 0; k < counts[i]; k++) weights[i * stride + k] /= total;
  }
  return { starts, counts, weights, stride };
}

/**
 * A function that writes the sums of a row into a result, from an offset on.
 *
 * For bytes the weights become integers of 15 bits, and halves are rounded up, as PyTorch and PIL do: so that the
 * pixels are theirs, and not those of a neighbouring level.
 *
 * @param {Uint8ClampedArray | Float32Array} result
 * @param {LineWeights} line
 * @returns {(sums: Float64Array, offset: number) => void}
 */
function finisher(result, { weights }) {
  if (result instanceof Float32Array) return (sums, offset) => result.set(sums, offset);
  const largest = weights.reduce((a, b) => Math.max(a, b));
  let numBits = 0;
  while (numBits < 21 && Math.floor(largest * 2 ** (numBits + 1) + 0.5) < 2 ** 15) numBits++;
  weights.forEach((weight, i) => (weights[i] = Math.floor(weight * 2 ** numBits + 0.5)));
  const half = 2 ** (numBits - 1);
  return (sums, offset) => {
    for (let i = 0; i < sums.length; i++) result[offset + i] = (sums[i] + half) >> numBits;
  };
}

/**
 * @template {Uint8ClampedArray | Float32Array} T
 * @param {T} data
 * @param {number} length
 * @returns {T}
 */
function emptyLike(data, length) {
  return /** @type {T} */ (data instanceof Float32Array ? new Float32Array(length) : new Uint8ClampedArray(length));
}

/**
 * Which pixels of logits exceed a threshold once they are enlarged bilinearly to another size: 1 there, 0 elsewhere.
 *
 * @param {Float32Array} logits (height, width) of `from`
 * @param {import("./types.js").Size} from
 * @param {import("./types.js").Size} to
 * @param {number} threshold
 * @returns {Uint8Array} (height, width) of `to`
 */
export function enlargeMask(logits, from, to, threshold) {
  const columns = neighbours(from.width, to.width);
  const rows = neighbours(from.height, to.height);
  const mask = new Uint8Array(to.width * to.height);
  const line = new Float32Array(from.width);
  for (let y = 0; y < to.height; y++) {
    const above = rows.before[y] * from.width;
    const below = rows.after[y] * from.width;
    const part = rows.parts[y];
    for (let x = 0; x < from.width; x++) line[x] = logits[above + x] * (1 - part) + logits[below + x] * part;
    for (let x = 0; x < to.width; x++) {
      const across = columns.parts[x];
      const logit = line[columns.before[x]] * (1 - across) + line[columns.after[x]] * across;
      mask[y * to.width + x] = logit > threshold ? 1 : 0;
    }
  }
  return mask;
}

/**
 * For each pixel of a new line the two old ones between whose centres its own lies, and the part of the second.
 *
 * @param {number} size
 * @param {number} newSize
 */
export function neighbours(size, newSize) {
  const before = new Int32Array(newSize);
  const after = new Int32Array(newSize);
  const parts = new Float32Array(newSize);
  for (let i = 0; i < newSize; i++) {
    const place = Math.max(((i + 0.5) * size) / newSize - 0.5, 0);
    before[i] = Math.floor(place);
    after[i] = Math.min(before[i] + 1, size - 1);
    parts[i] = place - before[i];
  }
  return { before, after, parts };
}
