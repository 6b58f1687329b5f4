/**
 * Everything in a video: what is known of objects that were discovered, which of them go, and what becomes new ones.
 *
 * Nothing here computes with the model. The rules, names and values are those of `everything_edgetam_video.py` and
 * `discovery_edgetam_video.py`, on masks as runs, but for looks, which need features of the picture: here no object gets
 * its id back, and searching less often finds nearly as much. Areas are shares of the picture.
 */
import { areaOf, combineRuns } from "./runs.js";

/** @typedef {import("./engine.js").Found} Found */
/** @typedef {import("../types.js").Size} Size */

/**
 * @typedef {object} EverythingOptions as `track_everything` explains them
 * @property {number} every
 * @property {number} maxObjects
 * @property {number} maxCovered
 * @property {number} minArea
 * @property {number} maxArea
 * @property {number} maxUncovered
 * @property {number} mergeIou
 * @property {number} mergeFrames
 * @property {number} maxAbsence
 */

/** @type {EverythingOptions} */
export const OPTIONS = {
  every: 15,
  maxObjects: 64,
  maxCovered: 0.5,
  minArea: 0.002,
  maxArea: 0.8,
  maxUncovered: 0.2,
  mergeIou: 0.7,
  mergeFrames: 3,
  maxAbsence: 30,
};

/**
 * @typedef {object} Seen what the masks of a frame show
 * @property {Map<number, number>} areas of each object, by id
 * @property {[number, number][]} agreeing pairs [older, younger] of objects whose masks agree
 * @property {number} uncovered the area that no mask covers
 */

const both = (/** @type {boolean} */ isOne, /** @type {boolean} */ isOther) => isOne && isOther;
const either = (/** @type {boolean} */ isOne, /** @type {boolean} */ isOther) => isOne || isOther;
const onlyFirst = (/** @type {boolean} */ isOne, /** @type {boolean} */ isOther) => isOne && !isOther;

/**
 * Runs of all that masks cover together.
 *
 * @param {readonly Found[]} found
 * @param {Size} size of the picture
 */
export function coveredBy(found, { width, height }) {
  /** @type {Uint32Array} */
  const nothing = Uint32Array.of(width * height);
  return found.reduce((covered, { runs }) => combineRuns(covered, runs, either), nothing);
}

/**
 * What masks show of objects, the oldest first; agreement is an IoU of mergeIou.
 *
 * @param {readonly Found[]} found
 * @param {Size} size of the picture
 * @param {number} mergeIou
 * @returns {Seen}
 */
export function lookAt(found, size, mergeIou) {
  const numPixels = size.width * size.height;
  const numOn = found.map(({ runs }) => areaOf(runs));
  /** @type {[number, number][]} */
  const agreeing = [];
  found.forEach((older, i) => {
    for (let j = i + 1; j < found.length; j++) {
      if (agree(older.runs, found[j].runs, numOn[i], numOn[j], mergeIou)) {
        agreeing.push([older.objectId, found[j].objectId]);
      }
    }
  });
  return {
    areas: new Map(found.map(({ objectId }, i) => [objectId, numOn[i] / numPixels])),
    agreeing,
    uncovered: 1 - areaOf(coveredBy(found, size)) / numPixels,
  };
}

/**
 * Whether two masks agree.
 *
 * @param {Uint32Array} one
 * @param {Uint32Array} other
 * @param {number} areaOfOne
 * @param {number} areaOfOther
 * @param {number} mergeIou
 */
function agree(one, other, areaOfOne, areaOfOther, mergeIou) {
  const [smaller, larger] = [Math.min(areaOfOne, areaOfOther), Math.max(areaOfOne, areaOfOther)];
  if (larger === 0 || smaller < mergeIou * larger) return false; // the IoU is at most smaller / larger
  const shared = areaOf(combineRuns(one, other, both));
  return shared >= mergeIou * (areaOfOne + areaOfOther - shared);
}

/**
 * The parts of masks that neither what is covered nor an earlier mask has, at most `limit`.
 *
 * Masks stay whose covered share is at most `maxCovered`, if they and what is left of them can show an object. Python
 * also leaves out lines that vanish at the size of the model input, which is not known here: they end as absent objects.
 *
 * @param {Iterable<Uint32Array>} masks best score first
 * @param {Uint32Array} covered
 * @param {Size} size of the picture
 * @param {EverythingOptions} options
 * @param {number} limit
 * @returns {Uint32Array[]}
 */
export function uncoveredMasks(masks, covered, { width, height }, options, limit) {
  const found = [];
  let taken = covered;
  for (const mask of masks) {
    const rest = combineRuns(mask, taken, onlyFirst);
    const [area, numLeft] = [areaOf(mask), areaOf(rest)];
    const isFree = area - numLeft <= options.maxCovered * area;
    if (!isFree || ![area, numLeft].every((num) => isSeen(num / (width * height), options))) continue;
    found.push(rest);
    if (found.length === limit) break;
    taken = combineRuns(taken, rest, either);
  }
  return found;
}

/**
 * Whether a mask with this share of the picture can show an object.
 *
 * @param {number} area
 * @param {EverythingOptions} options
 */
function isSeen(area, { minArea, maxArea }) {
  return area > 0 && minArea <= area && area <= maxArea;
}

/**
 * What is known of objects to follow everything. It never changes: a new one takes its place.
 *
 * The ids of new objects are the document's business, so it has no `next_id` as in Python.
 */
export class EverythingState {
  /** @type {number | null} the last frame that was followed */
  frameIdx = null;
  /** @type {number | null} the last frame that was searched */
  discoveredAt = null;
  /** The smallest area without a mask since then. */
  uncovered = 1;
  /**
   * For each object that was discovered, on how many frames up to now it was not seen.
   *
   * @type {ReadonlyMap<number, number>}
   */
  numUnseen = new Map();
  /** @type {readonly [number, number, number][]} [older, younger, since how many frames their masks agree] */
  numAgreeing = [];

  /** @param {Partial<EverythingState>} [values] */
  constructor(values = {}) {
    Object.assign(this, values);
  }

  /**
   * The state after a frame, and the ids of the objects that are to be dropped there.
   *
   * Only objects that were discovered are dropped: those unseen for too long, and of two that agree the younger one, or
   * the older one where a user has prompted the other.
   *
   * @param {number} frameIdx
   * @param {Seen} seen
   * @param {EverythingOptions} options
   * @returns {[EverythingState, number[]]}
   */
  after(frameIdx, seen, options) {
    /** @type {Map<number, number>} */
    const unseen = new Map();
    for (const [id, num] of this.numUnseen) {
      const area = seen.areas.get(id);
      if (area !== undefined) unseen.set(id, isSeen(area, options) ? 0 : num + 1);
    }
    const agreeing = seen.agreeing.map(([older, younger]) => {
      const known = this.numAgreeing.find(([one, other]) => one === older && other === younger);
      return /** @type {[number, number, number]} */ ([older, younger, (known?.[2] ?? 0) + 1]);
    });
    const dropped = [...unseen].filter(([, num]) => num > options.maxAbsence).map(([id]) => id);
    for (const [older, younger, num] of agreeing) {
      if (num < options.mergeFrames || dropped.includes(older) || dropped.includes(younger)) continue;
      dropped.push(...[younger, older].filter((id) => unseen.has(id)).slice(0, 1));
    }
    const state = new EverythingState({
      ...this,
      frameIdx,
      uncovered: Math.min(this.uncovered, seen.uncovered),
      numUnseen: new Map([...unseen].filter(([id]) => !dropped.includes(id))),
      numAgreeing: agreeing.filter(([older, younger]) => !dropped.includes(older) && !dropped.includes(younger)),
    });
    return [state, dropped];
  }

  /**
   * Whether the last frame is to be searched: in its turn, or as much of the picture has lost its masks.
   *
   * @param {Seen} seen
   * @param {EverythingOptions} options
   */
  isDue(seen, options) {
    if (this.frameIdx === null || this.discoveredAt === null) return true;
    const isLate = Math.abs(this.frameIdx - this.discoveredAt) >= options.every;
    return isLate || seen.uncovered - this.uncovered > options.maxUncovered;
  }

  /**
   * The state after the last frame was searched, where these objects were found and this area is uncovered.
   *
   * @param {readonly number[]} ids
   * @param {number} uncovered
   */
  discovered(ids, uncovered) {
    const found = ids.map((id) => /** @type {const} */ ([id, 0]));
    return new EverythingState({
      ...this, discoveredAt: this.frameIdx, uncovered, numUnseen: new Map([...this.numUnseen, ...found]),
    });
  }

  /**
   * The state once a user has prompted these objects, which are no longer to be dropped.
   *
   * @param {readonly number[]} ids
   */
  knows(ids) {
    return new EverythingState({
      ...this,
      numUnseen: new Map([...this.numUnseen].filter(([id]) => !ids.includes(id))),
      numAgreeing: this.numAgreeing.filter(([older, younger]) => !ids.includes(older) && !ids.includes(younger)),
    });
  }
}
