/**
 * What an object looks like: Fisher's linear discriminant between its pixels and all others.
 *
 * The rules and values are those of `memory_selection_edgetam.py`. Shapes: the finest map of a frame (c, 4h, 4w),
 * low-res masks (4h, 4w). A look (c + 1,) has weights and an offset that make log-odds of a pixel: how much rather it
 * is the object's than another's.
 */

const MOST_ODDS = 3; // of one pixel, so that no pixel decides alone
const LEAST_LOOK = 1; // mean log-odds of a mask that is in no doubt
const FEWEST_PIXELS = 3; // of an object, and of all others, from which a look can be learnt
const RIDGE = 0.1; // of the mean variance, which keeps the discriminant finite where colours are few
const LEAST_VARIANCE = 2 ** -23; // as in Python, where it is the precision of float32

/**
 * The look of an object; one that has too few pixels, or leaves too few, looks like everything.
 *
 * @param {Float32Array} features (c, 4h, 4w)
 * @param {Float32Array} mask logits (4h, 4w)
 * @returns {Float32Array}
 */
export function learnLook(features, mask) {
  const numChannels = features.length / mask.length;
  const [pixels, others] = [pixelsOf(mask, true), pixelsOf(mask, false)];
  const look = new Float32Array(numChannels + 1);
  if (Math.min(pixels.length, others.length) < FEWEST_PIXELS) {
    look[numChannels] = MOST_ODDS;
    return look;
  }
  const [one, other] = [pixels, others].map((part) => distribution(features, mask.length, part));
  const covariance = one.covariance.map((row, i) => row.map((value, j) => (value + other.covariance[i][j]) / 2));
  const variance = covariance.reduce((sum, row, i) => sum + row[i], 0) / numChannels;
  covariance.forEach((row, i) => (row[i] += RIDGE * Math.max(variance, LEAST_VARIANCE)));
  const weights = solve(covariance, one.mean.map((value, i) => value - other.mean[i]));
  look.set(weights);
  look[numChannels] = -dot(weights, one.mean.map((value, i) => (value + other.mean[i]) / 2));
  return look;
}

/**
 * How far the mean log-odds of the pixels of a mask are below those of a mask that is in no doubt, at least 0.
 *
 * @param {Float32Array} features (c, 4h, 4w)
 * @param {Float32Array} mask logits (4h, 4w)
 * @param {Float32Array} look
 */
export function doubt(features, mask, look) {
  const numChannels = look.length - 1;
  const pixels = pixelsOf(mask, true);
  let sum = 0;
  for (const pixel of pixels) {
    let odds = look[numChannels];
    for (let i = 0; i < numChannels; i++) odds += look[i] * features[i * mask.length + pixel];
    sum += Math.min(Math.max(odds, -MOST_ODDS), MOST_ODDS);
  }
  return Math.max(LEAST_LOOK - sum / Math.max(pixels.length, 1), 0);
}

/**
 * Indices of the pixels on an object, or of all others.
 *
 * @param {Float32Array} mask logits
 * @param {boolean} isObject
 */
function pixelsOf(mask, isObject) {
  const pixels = [];
  for (let i = 0; i < mask.length; i++) if (mask[i] > 0 === isObject) pixels.push(i);
  return pixels;
}

/**
 * Mean (c,) and covariance (c, c) of the features of some pixels; of the covariance only the lower half is filled.
 *
 * @param {Float32Array} features (c, 4h, 4w)
 * @param {number} numPixels 4h x 4w
 * @param {number[]} pixels indices
 */
function distribution(features, numPixels, pixels) {
  const channels = Array.from({ length: features.length / numPixels }, (_, i) => {
    return features.subarray(i * numPixels, (i + 1) * numPixels);
  });
  const mean = Float64Array.from(channels, (values) => meanOf(values, pixels));
  const products = channels.map(() => new Float64Array(channels.length)); // summed over pixels
  const centred = new Float64Array(channels.length); // of one pixel
  for (const pixel of pixels) {
    for (let i = 0; i < centred.length; i++) {
      centred[i] = channels[i][pixel] - mean[i];
      for (let j = 0; j <= i; j++) products[i][j] += centred[i] * centred[j];
    }
  }
  return { mean, covariance: products.map((row) => row.map((sum) => sum / (pixels.length - 1))) };
}

/**
 * @param {Float32Array} values
 * @param {number[]} pixels indices
 */
function meanOf(values, pixels) {
  let sum = 0;
  for (const pixel of pixels) sum += values[pixel];
  return sum / pixels.length;
}

/**
 * The x of A x = b, by Cholesky's decomposition A = L Lᵀ.
 *
 * @param {Float64Array[]} matrix A, symmetric and positive definite, of which the lower half is read
 * @param {Float64Array} values b
 * @returns {Float64Array}
 */
function solve(matrix, values) {
  const size = values.length;
  const lower = matrix.map(() => new Float64Array(size)); // L
  const solution = new Float64Array(size);
  for (let i = 0; i < size; i++) {
    for (let j = 0; j <= i; j++) {
      const rest = matrix[i][j] - dot(lower[i].subarray(0, j), lower[j]);
      lower[i][j] = i === j ? Math.sqrt(rest) : rest / lower[j][j];
    }
    solution[i] = (values[i] - dot(lower[i].subarray(0, i), solution)) / lower[i][i]; // of L y = b
  }
  for (let i = size - 1; i >= 0; i--) {
    solution[i] /= lower[i][i]; // of Lᵀ x = y
    for (let j = 0; j < i; j++) solution[j] -= lower[i][j] * solution[i];
  }
  return solution;
}

/**
 * Sum of the products of numbers, as many as there are in the first list.
 *
 * @param {Float64Array} one
 * @param {Float64Array} other
 */
function dot(one, other) {
  let sum = 0;
  for (let i = 0; i < one.length; i++) sum += one[i] * other[i];
  return sum;
}
