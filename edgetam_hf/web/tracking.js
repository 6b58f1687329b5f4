/**
 * One frame of tracking: which objects have to be found on it, and from what.
 *
 *     copy of the state -> plan -> batches run on the graphs -> results recorded in the copy -> masks
 */
import { frameEmbeddings } from "./frames.js";
import { doubt, learnLook } from "./looks.js";
import { FoundMask, unpackMask } from "./masks.js";
import { reachOf } from "./memory.js";
import { ABSENT_LOGIT } from "./stages.js";

/** @typedef {import("./memory.js").FrameResult} FrameResult */
/** @typedef {import("./memory.js").Prompt} Prompt */
/** @typedef {import("./memory.js").TrackedObject} TrackedObject */
/** @typedef {import("./state.js").SessionState} SessionState */
/** @typedef {import("./stages.js").Stages} Stages */
/** @typedef {import("./types.js").Embeddings} Embeddings */
/** @typedef {import("./types.js").ObjectMemory} ObjectMemory */
/** @typedef {import("./types.js").Prediction} Prediction */
/** @typedef {import("./types.js").TrackingConfig} TrackingConfig */

const LARGEST_PREVIOUS_LOGIT = 32; // of a mask that is given to the model again with a new click, as in training

/**
 * @typedef {object} Task how an object is found on a frame
 * @property {Prompt | null} prompt what it answers, `null` if the object is tracked
 * @property {Float32Array | null} previousMask logits that were found earlier on the same frame, for clicks to see
 * @property {ObjectMemory | null} memory what the object remembers, `null` where it begins
 */

/**
 * @typedef {object} FrameOutput what was found on a frame
 * @property {number} frameIdx
 * @property {Map<number, FoundMask>} masks by object id
 */

/** The stages at work on the copy of a state, which is to be thrown away after an error. */
export class Tracker {
  #stages;
  #state;
  #config;

  /**
   * @param {Stages} stages
   * @param {TrackingConfig} config
   * @param {SessionState} state
   */
  constructor(stages, config, state) {
    this.#stages = stages;
    this.#config = config;
    this.#state = state;
    this.reach = reachOf(config, state.settings.numFrames, state.numKept, state.settings.memorySelection);
  }

  /**
   * Finds all objects on the next frame of a stream, whose image embeddings are given.
   *
   * Unanswered prompts on earlier frames are answered first, and become memory. Answers on this frame can still be
   * refined.
   *
   * @param {number} frameIdx
   * @param {Embeddings} embeddings
   */
  async receive(frameIdx, embeddings) {
    const state = this.#state;
    const ids = [...state.objects.keys()];
    for (const t of [...state.embeddings.keys()].sort((a, b) => a - b)) await this.#answerPrompts(t, ids);
    state.receiveFrame(frameIdx, embeddings);
    await this.#answerPrompts(frameIdx, ids);
    await this.#trackObjects(frameIdx, false);
  }

  /**
   * Answers the prompts on a frame; objects without one keep what tracking has found.
   *
   * @param {number} frameIdx
   */
  async answer(frameIdx) {
    const ids = [...this.#state.objects.keys()];
    this.#state.reopenPrompts(frameIdx);
    await this.#restoreConditioning(frameIdx, false);
    await this.#findLost(frameIdx, ids);
    await this.#answerPrompts(frameIdx, ids);
  }

  /**
   * Finds all objects on a frame of a video, or on one that a stream still has.
   *
   * Prompts on frames whose results the memory bank needs there are answered first, and become memory.
   *
   * @param {number} frameIdx
   * @param {boolean} reverse
   */
  async track(frameIdx, reverse) {
    const state = this.#state;
    state.reopenPrompts(frameIdx);
    state.markReopened(frameIdx, reverse);
    await this.#restoreConditioning(frameIdx, reverse);
    for (const [t, ids] of state.unansweredInReach(frameIdx, reverse, this.reach)) await this.#answerPrompts(t, ids);
    state.commitAnswers();
    await this.#trackObjects(frameIdx, reverse);
  }

  /**
   * The newest results on a frame; objects without one are absent.
   *
   * @param {number} frameIdx
   * @returns {FrameOutput}
   */
  output(frameIdx) {
    const { numMaskPixels, description } = this.#stages;
    const size = this.#state.size ?? description.imageSize;
    const masks = new Map();
    for (const [id, object] of this.#state.objects) {
      const result = object.resultAt(frameIdx);
      const logits = result?.mask ?? new Float32Array(numMaskPixels).fill(ABSENT_LOGIT);
      const scores = [result?.iouScore ?? 0, result?.objectScoreLogit ?? ABSENT_LOGIT];
      masks.set(id, new FoundMask(logits, description.maskSize, size, scores[0], scores[1]));
    }
    return { frameIdx, masks };
  }

  /**
   * Image embeddings of a frame, from the state, which keeps them.
   *
   * @param {number} frameIdx
   * @returns {Promise<Embeddings>}
   */
  async embeddings(frameIdx) {
    const state = this.#state;
    const cached = state.embeddings.get(frameIdx);
    if (cached) return cached;
    const { embeddings, size } = await frameEmbeddings(this.#stages, await state.settings.frameAt?.(frameIdx));
    state.checkSize(size);
    state.cacheEmbeddings(frameIdx, embeddings);
    return embeddings;
  }

  /**
   * Computes dropped results of conditioning frames in reach again, where that needs no memory.
   *
   * @param {number} frameIdx
   * @param {boolean} reverse
   */
  async #restoreConditioning(frameIdx, reverse) {
    for (const [t, ids] of this.#state.unansweredInReach(frameIdx, reverse, this.reach)) {
      const dropped = ids.filter((id) => !this.#state.object(id).on(t).newest);
      const restorable = () => dropped.filter((id) => this.#state.object(id).canBeRestored(t));
      for (let restored = restorable(); restored.length > 0; restored = restorable()) {
        this.#state.restoreResults(t, await this.#compute(t, this.#planAnswers(t, restored)));
      }
    }
  }

  /**
   * Stages the answers to all unanswered prompts on a frame, for each object one after the other.
   *
   * @param {number} frameIdx
   * @param {number[]} ids
   */
  async #answerPrompts(frameIdx, ids) {
    const waiting = () => ids.filter((id) => this.#state.object(id).on(frameIdx).unanswered.length > 0);
    for (let unanswered = waiting(); unanswered.length > 0; unanswered = waiting()) {
      await this.#findLost(frameIdx, unanswered);
      this.#state.stageAnswers(frameIdx, await this.#compute(frameIdx, this.#planAnswers(frameIdx, unanswered)));
    }
  }

  /**
   * Tracks objects on a frame again whose results of tracking were dropped there.
   *
   * @param {number} frameIdx
   * @param {number[]} ids
   */
  async #findLost(frameIdx, ids) {
    const plan = new Map();
    for (const id of ids) {
      const object = this.#state.object(id);
      if (object.isLost(frameIdx)) plan.set(id, fromMemory(object.memoryAt(frameIdx, this.reach)));
    }
    this.#state.restoreResults(frameIdx, await this.#compute(frameIdx, plan));
  }

  /**
   * Tracks all objects on a frame but those whose result there answers a prompt.
   *
   * @param {number} frameIdx
   * @param {boolean} reverse
   */
  async #trackObjects(frameIdx, reverse) {
    const plan = new Map();
    for (const [id, object] of this.#state.objects) {
      if (object.hasConditioning && !object.resultAt(frameIdx)?.prompt) {
        plan.set(id, fromMemory(object.memoryAt(frameIdx, this.reach, reverse)));
      }
    }
    this.#state.recordTracked(frameIdx, await this.#compute(frameIdx, plan), reverse);
  }

  /**
   * How the first unanswered prompts of objects on a frame are answered.
   *
   * Clicks that correct tracking see memory, in the direction of tracking. All clicks see the last mask.
   *
   * @param {number} frameIdx
   * @param {number[]} ids
   * @returns {Map<number, Task>}
   */
  #planAnswers(frameIdx, ids) {
    const plan = new Map();
    for (const id of ids) {
      const object = this.#state.object(id);
      const prompt = object.nextPrompt(frameIdx);
      const seesMemory = prompt.isCorrection && !prompt.mask;
      const memory = seesMemory ? object.memoryAt(frameIdx, this.reach) : null;
      plan.set(id, { prompt, previousMask: object.resultAt(frameIdx)?.mask ?? null, memory });
    }
    return plan;
  }

  /**
   * What is found on a frame, by object id.
   *
   * @param {number} frameIdx
   * @param {Map<number, Task>} plan
   * @returns {Promise<Map<number, FrameResult>>}
   */
  async #compute(frameIdx, plan) {
    const results = new Map();
    for (const batch of batches(plan, this.#state.settings.maxObjectsPerBatch)) {
      const embeddings = await this.embeddings(frameIdx);
      const tasks = batch.map(([, task]) => task);
      const predictions = await this.#predict(embeddings, tasks);
      const isPrompted = tasks.map(({ prompt }) => prompt !== null);
      const memories = await this.#stages.encodeMemory(embeddings, predictions, isPrompted);
      batch.forEach(([id, task], i) => {
        const isConditioning = Boolean(task.prompt?.isConditioning);
        const prediction = this.#compareLook(task, embeddings[0], predictions[i]);
        results.set(id, { ...prediction, memory: memories[i], prompt: task.prompt, isConditioning });
      });
    }
    return results;
  }

  /**
   * The prediction, of an absent object if it is tracked and does not look like itself, and the look of the object.
   *
   * A prompt says what an object looks like, and is in no doubt.
   *
   * @param {Task} task
   * @param {Float32Array} features the finest map of the frame
   * @param {Prediction} prediction
   * @returns {Prediction & { look: Float32Array | null }}
   */
  #compareLook({ prompt, memory }, features, prediction) {
    const { lookWeight } = this.reach.selection;
    const { mask } = prediction;
    if (prompt) return { ...prediction, look: lookWeight > 0 ? learnLook(features, mask) : null };
    const look = memory?.look ?? null;
    if (!look) return { ...prediction, look };
    const objectScoreLogit = prediction.objectScoreLogit - lookWeight * doubt(features, mask, look);
    return { ...prediction, objectScoreLogit, mask: objectScoreLogit > 0 ? mask : mask.map(() => ABSENT_LOGIT), look };
  }

  /**
   * What is predicted of objects of one layout: from given masks, or from clicks and memory.
   *
   * @param {Embeddings} embeddings
   * @param {Task[]} tasks
   * @returns {Promise<Prediction[]>}
   */
  async #predict(embeddings, tasks) {
    const { width, height } = this.#stages.description.imageSize;
    const masks = tasks.flatMap(({ prompt }) => (prompt?.mask ? [unpackMask(prompt.mask, width * height)] : []));
    if (masks.length > 0) return this.#stages.adopt(embeddings, masks);
    const memories = tasks.flatMap(({ memory }) => memory ?? []);
    const conditioned = memories.length
      ? await this.#stages.attendToMemory(embeddings, memories)
      : this.#stages.forgetMemory(embeddings, tasks.length);
    const prompts = tasks.map(({ prompt, previousMask, memory }) => {
      const clicks = prompt?.clicks ?? { points: new Float32Array(), labels: [] };
      const isAmbiguous = isAmbiguousPrompt(this.#config, clicks.labels.length, memory !== null);
      return { clicks, mask: previousMask?.map(clampLogit) ?? null, isAmbiguous };
    });
    return this.#stages.predict(embeddings, conditioned, prompts);
  }
}

/**
 * @param {ObjectMemory} memory
 * @returns {Task}
 */
function fromMemory(memory) {
  return { prompt: null, previousMask: null, memory };
}

/**
 * Batches of at most so many objects that can be computed together, each with its id.
 *
 * @param {Map<number, Task>} plan
 * @param {number} limit
 * @returns {[number, Task][][]}
 */
function batches(plan, limit) {
  /** @type {Map<string, [number, Task][]>} */
  const groups = new Map();
  for (const [id, task] of plan) {
    const layout = layoutOf(task);
    groups.set(layout, [...(groups.get(layout) ?? []), [id, task]]);
  }
  return [...groups.values()].flatMap((group) => {
    const numBatches = Math.ceil(group.length / limit);
    return Array.from({ length: numBatches }, (_, i) => group.slice(i * limit, (i + 1) * limit));
  });
}

/**
 * What objects that are computed together must have in common.
 *
 * @param {Task} task
 */
function layoutOf({ prompt, memory }) {
  if (prompt?.mask) return "given mask";
  return memory ? `${memory.features.length} frames, ${memory.pointers.length} pointers` : "no memory";
}

/**
 * Whether so few clicks are ambiguous, so that the best of three masks is taken.
 *
 * @param {TrackingConfig} config
 * @param {number} numPoints
 * @param {boolean} hasMemory whether the object was seen on other frames
 */
function isAmbiguousPrompt(config, numPoints, hasMemory) {
  const isAllowed = config.multimask_output_in_sam && (!hasMemory || config.multimask_output_for_tracking);
  return isAllowed && config.multimask_min_pt_num <= numPoints && numPoints <= config.multimask_max_pt_num;
}

/** @param {number} logit */
function clampLogit(logit) {
  return Math.min(Math.max(logit, -LARGEST_PREVIOUS_LOGIT), LARGEST_PREVIOUS_LOGIT);
}
