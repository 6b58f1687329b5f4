/** Masks that are found, and masks in few bytes. */
import { enlargeMask } from "./resize.js";

/** @typedef {import("./types.js").Size} Size */

/** A mask of an object that was found in a picture or frame. */
export class FoundMask {
  /** @type {Uint8Array | null} */
  #pixels = null;

  /**
   * @param {Float32Array} logits low-res logits, row by row
   * @param {Size} logitsSize their size, a quarter of the model input
   * @param {Size} size of the picture
   * @param {number} iouScore predicted IoU with the object, in [0, 1]
   * @param {number} objectScoreLogit logit of "the object is visible"
   */
  constructor(logits, logitsSize, size, iouScore, objectScoreLogit) {
    this.logits = logits;
    this.logitsSize = logitsSize;
    this.size = size;
    this.iouScore = iouScore;
    this.objectScoreLogit = objectScoreLogit;
  }

  /** Whether the object is in the picture. */
  get isPresent() {
    return this.objectScoreLogit > 0;
  }

  /** The mask at the size of the picture, row by row: 1 on the object, 0 elsewhere. */
  get pixels() {
    this.#pixels ??= enlargeMask(this.logits, this.logitsSize, this.size, 0);
    return this.#pixels;
  }
}

/**
 * The bits of a mask, eight pixels in a byte.
 *
 * @param {Uint8Array} mask 0 and 1
 * @returns {Uint8Array}
 */
export function packMask(mask) {
  const bits = new Uint8Array(Math.ceil(mask.length / 8));
  for (let i = 0; i < mask.length; i++) bits[i >> 3] |= mask[i] << (i & 7);
  return bits;
}

/**
 * The mask of `packMask`, as floats 0 and 1.
 *
 * @param {Uint8Array} bits
 * @param {number} length number of pixels
 * @returns {Float32Array}
 */
export function unpackMask(bits, length) {
  return Float32Array.from({ length }, (_, i) => (bits[i >> 3] >> (i & 7)) & 1);
}
