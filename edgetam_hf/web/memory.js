/**
 * The memory bank of one object: its prompts and results on each frame, and what later frames see of them.
 *
 * The rules are those of `memory_bank_edgetam.py`. Shapes: (4h, 4w) low-res masks, C channels of the model, K latents
 * of m channels that a frame leaves in memory.
 */
import { MemorySelection } from "./memory_selection.js";
import { hasBox } from "./prompts.js";

/** @typedef {import("./types.js").Clicks} Clicks */
/** @typedef {import("./types.js").ObjectMemory} ObjectMemory */
/** @typedef {import("./types.js").TrackingConfig} TrackingConfig */

/**
 * @typedef {object} Prompt one prompt of an object on a frame: clicks and a box, or a mask in their place
 * @property {Clicks} clicks none beside a mask
 * @property {Uint8Array | null} mask in bits, at the size of the model input
 * @property {boolean | null} isConditioning whether its frame is a conditioning frame; like the next `null` until the
 *     prompt is answered for the first time, and then as it was decided
 * @property {boolean | null} isCorrection whether it corrects what tracking has found, and does not begin the object
 */

/**
 * @typedef {object} FrameResult what was found of an object on a frame
 * @property {Float32Array | null} mask low-res logits (4h, 4w), `null` once out of reach
 * @property {number} iouScore
 * @property {number} objectScoreLogit
 * @property {Float32Array} pointer (C,)
 * @property {Float32Array | null} memory (K, m), `null` once out of reach
 * @property {Prompt | null} prompt the last that it answers, `null` if the object was tracked
 * @property {boolean} isConditioning
 * @property {Float32Array | null} look (C / 8 + 1,), what the object looks like, or looked like where it began; `null`
 *     if nobody compares it
 */

/**
 * @typedef {object} Reach how far the memory bank reaches
 * @property {number} numMemories frames whose memory counts; all conditioning frames make up one of them
 * @property {number} numPointers frames whose object pointer counts
 * @property {number} numConditioning conditioning frames that are attended to (-1: all)
 * @property {number} numSearched how many frames back there may be one whose memory counts
 * @property {number} numBack how many frames, with the present one, may have a memory or a pointer that counts
 * @property {MemorySelection} selection which of the frames count whose memory or pointer could
 */

/**
 * @typedef {object} FrameRun frames, all from the first to the last, through which tracking went in one direction
 * @property {number} first
 * @property {number} last
 * @property {boolean} reverse
 */

/**
 * The reach in a video of so many frames, or in a stream (`null`), with a session that keeps so many (`null`: all).
 *
 * @param {TrackingConfig} config
 * @param {number | null} numFrames
 * @param {number | null} numKept
 * @param {MemorySelection} [selection]
 * @returns {Reach}
 */
export function reachOf(config, numFrames, numKept, selection = new MemorySelection()) {
  const { num_maskmem: numMemories, max_object_pointers_in_encoder: maxPointers } = config;
  let numConditioning = config.max_cond_frame_num;
  if (numKept !== null) {
    const limit = Math.max(numMemories, numKept);
    numConditioning = numConditioning < 0 ? limit : Math.min(numConditioning, limit);
  }
  const numPointers = Math.min(maxPointers, numFrames ?? maxPointers);
  const numSearched = selection.numSearched ?? numMemories - 1;
  const numBack = Math.max(numSearched + 1, numPointers);
  return { numMemories, numPointers, numConditioning, numSearched, numBack, selection };
}

/**
 * At most `limit` (-1: all) of the frames, sorted: the last before, the next at or after, then the nearest.
 *
 * Of two that are equally near, the earlier one.
 *
 * @param {Iterable<number>} frames
 * @param {number} frameIdx
 * @param {number} limit
 * @returns {number[]}
 */
export function closestFrames(frames, frameIdx, limit) {
  const sorted = [...frames].sort(ascending);
  if (limit < 0 || sorted.length <= limit) return sorted;
  const before = sorted.findLast((t) => t < frameIdx);
  const after = sorted.find((t) => t >= frameIdx);
  const isFar = (/** @type {number} */ t) => Number(t !== before && t !== after);
  const distance = (/** @type {number} */ t) => Math.abs(t - frameIdx);
  sorted.sort((a, b) => isFar(a) - isFar(b) || distance(a) - distance(b) || a - b);
  return sorted.slice(0, limit).sort(ascending);
}

/**
 * All that is known of an object on one frame. It never changes: `with…` give new ones.
 *
 * Prompts stay until they are cleared. The result is what later frames remember. The answer to prompts is staged, kept
 * apart until tracking goes on and it becomes the result: so it does not matter in which order frames are prompted. A
 * result may be dropped: then the prompts are unanswered again, as new ones are.
 */
class ObjectOnFrame {
  /**
   * @param {readonly Prompt[]} [prompts]
   * @param {FrameResult | null} [staged]
   * @param {FrameResult | null} [result]
   */
  constructor(prompts = [], staged = null, result = null) {
    this.prompts = prompts;
    this.staged = staged;
    this.result = result;
  }

  /** @param {readonly Prompt[]} prompts */
  withPrompts(prompts) {
    return new ObjectOnFrame(prompts, this.staged, this.result);
  }

  /** @param {FrameResult | null} staged */
  withStaged(staged) {
    return new ObjectOnFrame(this.prompts, staged, this.result);
  }

  /** @param {FrameResult | null} result */
  withResult(result) {
    return new ObjectOnFrame(this.prompts, this.staged, result);
  }

  /** The newest result. */
  get newest() {
    return this.staged ?? this.result;
  }

  /** The prompts that the newest result does not answer, in order. */
  get unanswered() {
    const answered = this.newest?.prompt;
    return answered ? this.prompts.slice(this.prompts.indexOf(answered) + 1) : this.prompts;
  }

  /** Whether it is a conditioning frame whose result is there. */
  get isConditioning() {
    return this.result !== null && this.result.isConditioning;
  }

  /** Whether there is a result of tracking, or one that corrects tracking. */
  get isTracked() {
    return this.result !== null && !this.result.isConditioning;
  }

  /** Whether the frame was prompted or is a conditioning frame, as few are. */
  get isKey() {
    return this.prompts.length > 0 || this.isConditioning;
  }
}

const UNKNOWN = new ObjectOnFrame();

/** One object, frame by frame. */
export class TrackedObject {
  /**
   * What is known of each frame, in the order in which tracking last went through them; others come before.
   *
   * @type {Map<number, ObjectOnFrame>}
   */
  frames = new Map();
  /**
   * The prompted and conditioning frames, sorted, so that not all frames need to be searched.
   *
   * @type {number[]}
   */
  keyFrames = [];
  /**
   * In which direction tracking last went through frames. This is needed of all frames of a video, even where
   * everything else is forgotten.
   *
   * @type {FrameRun[]}
   */
  directions = [];

  /** An object that can be changed without changing this one. */
  copy() {
    const copy = new TrackedObject();
    copy.frames = new Map(this.frames);
    copy.keyFrames = this.keyFrames;
    copy.directions = this.directions;
    return copy;
  }

  /**
   * What is known of a frame.
   *
   * @param {number} frameIdx
   */
  on(frameIdx) {
    return this.frames.get(frameIdx) ?? UNKNOWN;
  }

  /**
   * The newest result on a frame, if its mask is still known.
   *
   * @param {number} frameIdx
   */
  resultAt(frameIdx) {
    const { newest } = this.on(frameIdx);
    return newest?.mask ? newest : null;
  }

  /**
   * Whether tracking last went through a frame in reverse; `null` if it was not there.
   *
   * @param {number} frameIdx
   */
  directionAt(frameIdx) {
    return this.directions.find(({ first, last }) => first <= frameIdx && frameIdx <= last)?.reverse ?? null;
  }

  /** Frames with prompts, sorted. */
  get promptedFrames() {
    return this.keyFrames.filter((t) => this.on(t).prompts.length > 0);
  }

  /** Frames with answers that become results when tracking goes on, sorted. */
  get stagedFrames() {
    return this.keyFrames.filter((t) => this.on(t).staged !== null);
  }

  /**
   * Results of conditioning frames, by frame.
   *
   * @returns {Map<number, FrameResult>}
   */
  get conditioning() {
    const results = new Map();
    for (const t of this.keyFrames) {
      if (this.on(t).isConditioning) results.set(t, this.on(t).result);
    }
    return results;
  }

  /** Whether there is a result of a conditioning frame, without which nothing can be tracked. */
  get hasConditioning() {
    return this.keyFrames.some((t) => this.on(t).isConditioning);
  }

  // Prompts.

  /**
   * Adds a prompt of the object on a frame; a mask replaces all earlier ones.
   *
   * @param {number} frameIdx
   * @param {Prompt} prompt
   */
  addPrompt(frameIdx, prompt) {
    const record = this.on(frameIdx);
    const isConditioning = record.prompts.length ? record.prompts[0].isConditioning : prompt.isConditioning;
    const added = { ...prompt, isConditioning };
    this.#set(frameIdx, record.withPrompts(prompt.mask ? [added] : [...record.prompts, added]));
  }

  /**
   * Takes back all prompts on a frame, and what was found there.
   *
   * @param {number} frameIdx
   */
  clearPrompts(frameIdx) {
    this.#set(frameIdx, UNKNOWN);
  }

  /**
   * Whether a frame has prompts that were never answered.
   *
   * @param {number} frameIdx
   */
  isNew(frameIdx) {
    return this.on(frameIdx).prompts.some((prompt) => prompt.isCorrection === null);
  }

  /**
   * Whether a prompt corrects what tracking found on its frame, and does not begin the object there.
   *
   * @param {number} frameIdx
   * @param {Prompt} prompt
   */
  isCorrection(frameIdx, prompt) {
    return (prompt.isCorrection ?? this.directionAt(frameIdx) !== null) && this.hasConditioning;
  }

  /**
   * The first unanswered prompt on a frame, once it is decided what it does.
   *
   * A correction belongs to the same kind of frame as what it corrects; where the object begins, its frame is a
   * conditioning frame.
   *
   * @param {number} frameIdx
   * @returns {Prompt}
   */
  nextPrompt(frameIdx) {
    const prompt = this.on(frameIdx).unanswered[0];
    const isCorrection = this.isCorrection(frameIdx, prompt);
    const isConditioning = !isCorrection || Boolean(prompt.isConditioning);
    const isDecided = prompt.isCorrection === isCorrection && prompt.isConditioning === isConditioning;
    return isDecided ? prompt : { ...prompt, isCorrection, isConditioning };
  }

  /** Frames that are or will be conditioning frames, also those whose results are not there. */
  conditioningFrames() {
    return this.promptedFrames.filter((t) => {
      const { prompts } = this.on(t);
      if (prompts.some((prompt) => prompt.isConditioning)) return true;
      return prompts.every((prompt) => prompt.isConditioning === null) && !this.isCorrection(t, prompts[0]);
    });
  }

  /**
   * Prompted frames whose results the memory bank needs on a frame, and that frame itself.
   *
   * @param {number} frameIdx
   * @param {boolean} reverse
   * @param {Reach} reach
   * @returns {Set<number>}
   */
  framesInReach(frameIdx, reverse, reach) {
    const step = reverse ? -1 : 1;
    const near = this.promptedFrames.filter((t) => {
      const distance = step * (frameIdx - t);
      return distance >= 0 && distance < reach.numBack;
    });
    return new Set([...closestFrames(this.conditioningFrames(), frameIdx, reach.numConditioning), ...near]);
  }

  /**
   * Whether the next unanswered prompt on a conditioning frame was answered before, and without memory.
   *
   * @param {number} frameIdx
   */
  canBeRestored(frameIdx) {
    const prompt = this.on(frameIdx).unanswered[0];
    if (!prompt?.isConditioning) return false;
    return prompt.isCorrection === false || (prompt.mask !== null && prompt.isCorrection !== null);
  }

  /**
   * Whether tracking went through a frame, its result was dropped, and no prompt begins the object there.
   *
   * @param {number} frameIdx
   */
  isLost(frameIdx) {
    const prompt = this.on(frameIdx).unanswered[0];
    const begins = prompt !== undefined && (prompt.mask !== null || !this.isCorrection(frameIdx, prompt));
    const wasTracked = this.directionAt(frameIdx) !== null && this.hasConditioning;
    return wasTracked && !this.resultAt(frameIdx) && !begins;
  }

  // Results.

  /**
   * Keeps the answer to the next unanswered prompt on a frame until tracking goes on.
   *
   * @param {number} frameIdx
   * @param {FrameResult} result
   */
  stage(frameIdx, result) {
    const record = this.on(frameIdx);
    const [unanswered] = record.unanswered;
    const prompts = record.prompts.map((prompt) => (prompt === unanswered ? (result.prompt ?? prompt) : prompt));
    this.#set(frameIdx, record.withPrompts(prompts).withStaged(result));
  }

  /** Lets staged answers become memory. */
  commit() {
    for (const t of this.stagedFrames) {
      const { staged } = this.on(t);
      this.#set(t, this.on(t).withStaged(null));
      if (staged) this.remember(t, staged);
    }
  }

  /**
   * Makes a result part of the memory, as one of the frames through which tracking went longest ago.
   *
   * @param {number} frameIdx
   * @param {FrameResult} result
   */
  remember(frameIdx, result) {
    const record = this.on(frameIdx);
    const remembered = record.withResult(result);
    this.#set(frameIdx, remembered);
    if (!record.isTracked && !result.isConditioning) {
      this.frames.delete(frameIdx);
      this.frames = new Map([[frameIdx, remembered], ...this.frames]);
    }
  }

  /**
   * Notes that tracking goes through a frame now, with what it finds, if that is new.
   *
   * @param {number} frameIdx
   * @param {boolean} reverse
   * @param {FrameResult | undefined} result
   */
  markTracked(frameIdx, reverse, result) {
    const known = this.frames.get(frameIdx);
    const record = result ? (known ?? UNKNOWN).withResult(result) : known;
    this.frames.delete(frameIdx);
    if (record) this.frames.set(frameIdx, record);
    this.markDirection(frameIdx, reverse);
  }

  /**
   * Notes in which direction tracking goes through a frame.
   *
   * @param {number} frameIdx
   * @param {boolean} reverse
   */
  markDirection(frameIdx, reverse) {
    if (this.directionAt(frameIdx) === reverse) return;
    const parts = [{ first: frameIdx, last: frameIdx, reverse }];
    for (const run of this.directions) {
      parts.push({ ...run, last: Math.min(run.last, frameIdx - 1) });
      parts.push({ ...run, first: Math.max(run.first, frameIdx + 1) });
    }
    /** @type {FrameRun[]} */
    const runs = [];
    for (const part of parts.filter(({ first, last }) => first <= last).sort((a, b) => a.first - b.first)) {
      const before = runs.at(-1);
      if (before && before.last === part.first - 1 && before.reverse === part.reverse) {
        runs[runs.length - 1] = { ...before, last: part.last };
      } else {
        runs.push(part);
      }
    }
    this.directions = runs;
  }

  /**
   * Drops what was found on a frame, so that its prompts are unanswered again.
   *
   * @param {number} frameIdx
   */
  dropResults(frameIdx) {
    this.#set(frameIdx, new ObjectOnFrame(this.on(frameIdx).prompts));
  }

  /**
   * What the object remembers on a frame: conditioning frames, earlier (in reverse: later) frames, pointers.
   *
   * Conditioning frames of the past and of the future count, but pointers of the past only.
   *
   * @param {number} frameIdx
   * @param {Reach} reach
   * @param {boolean | null} [reverse] by default as tracking last went through the frame
   * @returns {ObjectMemory}
   */
  memoryAt(frameIdx, reach, reverse = this.directionAt(frameIdx)) {
    const step = reverse ? -1 : 1;
    const { conditioning } = this;
    const attended = closestFrames(conditioning.keys(), frameIdx, reach.numConditioning);
    const [closest] = closestFrames(conditioning.keys(), frameIdx, 1);
    /** @type {[number, FrameResult][]} */
    const earlier = []; // with their distances
    for (let distance = 1; distance < reach.numBack; distance++) {
      const t = frameIdx - step * distance;
      const { result } = this.on(t);
      if (result && !attended.includes(t)) earlier.push([distance, result]);
    }
    const recent = reach.selection.choose(earlier, reach.numMemories - 1);
    /** @type {[number, FrameResult][]} */
    const begun = [];
    for (const t of attended) {
      const result = conditioning.get(t);
      if (result) begun.push([step * (frameIdx - t), result]);
    }
    const pointed = [
      ...begun.filter(([distance]) => distance >= 0),
      ...reach.selection.sure(earlier).filter(([distance]) => distance < reach.numPointers),
    ];
    return {
      features: [...begun, ...recent].flatMap(([, { memory }]) => memory ?? []),
      timeIdx: [...begun.map(() => reach.numMemories - 1), ...recent.map(([row]) => row)],
      pointers: pointed.map(([, { pointer }]) => pointer),
      pointerOffsets: pointed.map(([distance]) => distance / Math.max(reach.numPointers - 1, 1)),
      look: conditioning.get(closest)?.look ?? null,
    };
  }

  /**
   * Drops what neither the memory bank on the next frame nor a correction of the last frames needs.
   *
   * @param {number} frameIdx
   * @param {number} numKept
   * @param {Reach} reach
   */
  forget(frameIdx, numKept, reach) {
    const held = [...new Set([...this.conditioning.keys(), ...this.stagedFrames])];
    const kept = closestFrames(held, frameIdx, reach.numConditioning);
    for (const t of held) {
      if (kept.includes(t) || Math.abs(frameIdx - t) < reach.numBack) continue;
      const record = this.on(t);
      this.#set(t, new ObjectOnFrame(record.prompts, null, record.isTracked ? record.result : null));
    }
    const tracked = [...this.frames].filter(([, record]) => record.isTracked).reverse();
    tracked.forEach(([t, record], age) => {
      // a correction of the oldest frame that is kept needs as many frames before it as any other
      if (age >= numKept - 1 + reach.numBack) {
        this.#set(t, record.withResult(null));
      } else if (age >= numKept && record.result) {
        const memory = age <= numKept - 1 + reach.numSearched ? record.result.memory : null;
        this.#set(t, record.withResult({ ...record.result, mask: null, memory }));
      }
    });
  }

  /**
   * Drops the prompts on frames before this one, which are gone, where their results are gone, too.
   *
   * @param {number} frameIdx
   */
  forgetPromptsBefore(frameIdx) {
    for (const t of this.keyFrames) {
      if (t < frameIdx && !this.on(t).newest) this.#set(t, UNKNOWN);
    }
    this.directions = this.directions.filter(({ last }) => last >= frameIdx);
  }

  /**
   * Replaces what is known of a frame, which keeps its place in the order.
   *
   * @param {number} frameIdx
   * @param {ObjectOnFrame} record
   */
  #set(frameIdx, record) {
    if (record.isKey !== this.on(frameIdx).isKey) {
      const others = this.keyFrames.filter((t) => t !== frameIdx);
      this.keyFrames = record.isKey ? [...others, frameIdx].sort(ascending) : others;
    }
    if (record.prompts.length > 0 || record.newest) {
      this.frames.set(frameIdx, record);
    } else {
      this.frames.delete(frameIdx);
    }
  }
}

/**
 * A prompt whose clicks come after those of an earlier one on the same frame.
 *
 * @param {Prompt} prompt
 * @param {Prompt | undefined} earlier
 * @returns {Prompt}
 */
export function afterEarlier(prompt, earlier) {
  if (!earlier || earlier.mask || prompt.mask) return prompt;
  if (hasBox(prompt.clicks)) {
    throw new RangeError("a box must come before clicks, but the object has some on this frame: leave joinEarlier out");
  }
  const clicks = {
    points: Float32Array.from([...earlier.clicks.points, ...prompt.clicks.points]),
    labels: [...earlier.clicks.labels, ...prompt.clicks.labels],
  };
  return { ...prompt, clicks };
}

/**
 * @param {number} a
 * @param {number} b
 */
function ascending(a, b) {
  return a - b;
}
