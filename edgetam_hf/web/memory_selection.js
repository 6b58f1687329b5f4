/**
 * What an object remembers: which of the frames before one, and what it looks like.
 *
 * The rules and values are those of `memory_selection_edgetam.py`.
 */
import { describe, readAmount, readCount } from "./checks.js";

/** @typedef {import("./memory.js").FrameResult} FrameResult */

/**
 * @typedef {object} Selection
 * @property {number | null} numSearched how many frames before are searched for memories; by default no more than are
 *     remembered if none is left out
 * @property {number} leastIou predicted IoU, in [0, 1], that the mask of a visible object must have for the frame to be
 *     remembered
 * @property {boolean} hasAbsent whether frames are remembered on which the object was not visible
 * @property {number} lookWeight how much the object score of a tracked object falls where its mask does not look like
 *     the object on the closest frame on which it begins: so much for each unit of `doubt` in looks.js. Where it falls
 *     below zero the object counts as absent. What is remembered of the frame does not change.
 */

const MOST_SEARCHED = 1000; // frames, whose memories are all kept
const MOST_LOOK_WEIGHT = 1000;

/**
 * By the names that users give.
 *
 * @type {Record<string, Partial<Selection>>}
 */
export const SELECTIONS = { recent: {}, confident: { lookWeight: 2 } };

export class MemorySelection {
  /** @param {Partial<Selection>} [values] without them none of the last frames is left out */
  constructor({ numSearched = null, leastIou = 0, hasAbsent = true, lookWeight = 0 } = {}) {
    this.numSearched = numSearched === null ? null : readCount(numSearched, "numSearched");
    if (numSearched !== null && numSearched > MOST_SEARCHED) {
      throw new RangeError(`numSearched must be at most ${MOST_SEARCHED}, got ${numSearched}`);
    }
    if (typeof hasAbsent !== "boolean") {
      throw new TypeError(`hasAbsent must be true or false, got ${describe(hasAbsent)}`);
    }
    this.leastIou = readAmount(leastIou, "leastIou", 1);
    this.hasAbsent = hasAbsent;
    this.lookWeight = readAmount(lookWeight, "lookWeight", MOST_LOOK_WEIGHT);
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
