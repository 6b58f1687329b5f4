/**
 * Which of the frames before one an object remembers there: the last ones, or the last on which it was surely seen.
 *
 * The rules and values are those of `memory_selection_edgetam.py`.
 */
import { describe, readCount } from "./checks.js";

/** @typedef {import("./memory.js").FrameResult} FrameResult */

/**
 * @typedef {object} Selection
 * @property {number | null} numSearched how many frames before are searched for memories; by default no more than are
 *     remembered if none is left out
 * @property {number} leastIou predicted IoU, in [0, 1], that the mask of a visible object must have for the frame to be
 *     remembered
 * @property {boolean} hasAbsent whether frames are remembered on which the object was not visible
 */

const MOST_SEARCHED = 1000; // frames, whose memories are all kept

/**
 * By the names that users give.
 *
 * @type {Record<string, Partial<Selection>>}
 */
export const SELECTIONS = { recent: {}, confident: { numSearched: 15, leastIou: 0.3 } };

export class MemorySelection {
  /** @param {Partial<Selection>} [values] without them none of the last frames is left out */
  constructor({ numSearched = null, leastIou = 0, hasAbsent = true } = {}) {
    this.numSearched = numSearched === null ? null : readCount(numSearched, "numSearched");
    if (numSearched !== null && numSearched > MOST_SEARCHED) {
      throw new RangeError(`numSearched must be at most ${MOST_SEARCHED}, got ${numSearched}`);
    }
    if (!(leastIou >= 0 && leastIou <= 1)) throw new RangeError(`leastIou must be in 0..1, got ${describe(leastIou)}`);
    if (typeof hasAbsent !== "boolean") {
      throw new TypeError(`hasAbsent must be true or false, got ${describe(hasAbsent)}`);
    }
    this.leastIou = leastIou;
    this.hasAbsent = hasAbsent;
  }

  /**
   * The selection that a user has given: a name, or values of its own. Throws a TypeError for anything else.
   *
   * @param {any} value
   */
  static of(value) {
    if (typeof value === "string" && Object.hasOwn(SELECTIONS, value)) return new MemorySelection(SELECTIONS[value]);
    if (typeof value === "object" && value !== null) return new MemorySelection(value);
    throw new TypeError(`memorySelection must be "recent", "confident" or an object of values, got ${describe(value)}`);
  }

  /**
   * Of the results on the frames before one, with their distances, those on which the object was surely seen.
   *
   * What answers a prompt is sure, since a user has looked at it.
   *
   * @param {[number, FrameResult][]} earlier
   */
  sure(earlier) {
    if (this.hasAbsent && this.leastIou === 0) return earlier;
    return earlier.filter(([, result]) => result.prompt !== null || this.#isSure(result));
  }

  /**
   * At most so many of the results on the frames before one to remember, the farthest first, each with its row of the
   * temporal encoding.
   *
   * @param {[number, FrameResult][]} earlier with their distances, the nearest first
   * @param {number} limit number of rows, and of frames
   * @returns {[number, FrameResult][]}
   */
  choose(earlier, limit) {
    const searched = this.numSearched ?? limit;
    const near = this.sure(earlier).filter(([distance, { memory }]) => distance <= searched && memory);
    return near.slice(0, limit).reverse().map(([distance, result]) => [Math.min(distance, limit) - 1, result]);
  }

  /** @param {FrameResult} result */
  #isSure({ iouScore, objectScoreLogit }) {
    return objectScoreLogit > 0 ? iouScore >= this.leastIou : this.hasAbsent;
  }
}
