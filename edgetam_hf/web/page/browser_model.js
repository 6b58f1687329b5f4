/** The exported model in the worker: what is open, and what is found in it, with masks as runs. */
import { EdgeTam } from "../edgetam.js";
import { availableDevice } from "../graphs.js";
import { resize } from "../resize.js";
import { ABSENT_LOGIT } from "../stages.js";
import { findEverything } from "./everything.js";
import { boxOf, decodeRuns, encodeRuns } from "./runs.js";

/** @typedef {import("../edgetam.js").FoundMask} FoundMask */
/** @typedef {import("../edgetam.js").Picture} Picture */
/** @typedef {import("../edgetam.js").VideoSession} VideoSession */
/** @typedef {import("../types.js").Size} Size */
/** @typedef {import("./engine.js").Found} Found */
/** @typedef {import("./engine.js").FoundFrame} FoundFrame */
/** @typedef {import("./engine.js").Prompt} Prompt */
/** @typedef {Omit<BrowserModel, "frameAt">} Calls */

/**
 * @typedef {object} Reports of a call that goes on for a while
 * @property {import("./engine.js").OnProgress} onProgress
 * @property {(found: FoundFrame) => void} onFrame
 * @property {() => Promise<boolean>} isAborted
 */

const MAX_MEMORY_FRAMES = 64; // that can be corrected as if nothing were ever forgotten
const MAX_CACHED_FRAMES = 4; // whose image embeddings are kept; of a camera those that can be prompted
const MASK_LOGIT = 10; // of a mask prompt, inside; outside its negative

export class BrowserModel {
  #requestFrame;
  /** @type {EdgeTam | null} */
  #model = null;
  #options = {}; // of mask generation
  /** @type {ImageBitmap | null} */
  #bitmap = null;
  /** @type {Promise<Picture> | null} */
  #picture = null;
  /** @type {VideoSession | null} */
  #session = null;
  #isLive = false;

  /** @param {(mediaIdx: number, frameIdx: number) => Promise<ImageBitmap>} requestFrame */
  constructor(requestFrame) {
    this.#requestFrame = requestFrame;
  }

  /**
   * Loads the model of a folder, and says where it runs.
   *
   * @param {{ model: string, ort: string, device: "webgpu" | "wasm", dtype: "fp32" | "fp16" | "q8" }} params addresses
   */
  async load({ model, ort: ortFolder, device, dtype }) {
    const available = await availableDevice(device);
    const ort = await import(`${ortFolder}ort.${available}.min.mjs`); // that without WebGPU is half as large
    ort.env.wasm.wasmPaths = ortFolder;
    if (globalThis.crossOriginIsolated) ort.env.wasm.numThreads = Math.min(4, navigator.hardwareConcurrency);
    this.#model = await EdgeTam.load(model, { ort, device: available, dtype });
    const settings = await (await fetch(`${model}/preprocessor_config.json`)).json();
    this.#options = settings.mask_generation ?? {};
    return { device: this.#model.device };
  }

  /**
   * Opens a picture, and begins to encode it.
   *
   * @param {{ bitmap: ImageBitmap }} params
   */
  async openPicture({ bitmap }) {
    this.#close();
    this.#bitmap = bitmap;
    this.#picture = this.#loaded().encode(bitmap);
    this.#picture.catch(() => {}); // whoever prompts it hears of it
  }

  /** @param {Size & { numFrames: number, mediaIdx: number }} params */
  async openVideo({ width, height, numFrames, mediaIdx }) {
    /** @type {ImageBitmap | null} */
    let last = null;
    const frameAt = async (/** @type {number} */ frameIdx) => {
      last?.close(); // it was read at once
      last = await this.#requestFrame(mediaIdx, frameIdx);
      return last;
    };
    const memory = { maxCachedFrames: MAX_CACHED_FRAMES, maxMemoryFrames: MAX_MEMORY_FRAMES };
    const session = await this.#loaded().startSession({ width, height, numFrames, frameAt, ...memory });
    this.#close();
    this.#session = session;
  }

  async openLive() {
    const session = await this.#loaded().startSession({ maxCachedFrames: MAX_CACHED_FRAMES });
    this.#close();
    this.#session = session;
    this.#isLive = true;
  }

  /**
   * @param {{ prompt: Prompt, isMultimask: boolean }} params
   * @returns {Promise<Found[]>}
   */
  async segment({ prompt, isMultimask }) {
    const picture = await this.#openPicture();
    const given = { ...asLists(prompt), masks: null, multimask: isMultimask };
    const [masks] = await picture.prompt(prompt.mask ? { ...given, ...this.#refining(prompt, picture.size) } : given);
    return masks.sort((a, b) => b.iouScore - a.iouScore).map((mask) => foundOf(0, mask));
  }

  /**
   * A mask as the model for pictures takes it: logits, and a box where nothing else is given.
   *
   * @param {Prompt} prompt
   * @param {Size} size of the picture
   */
  #refining({ points, box, mask }, size) {
    const runs = /** @type {Uint32Array} */ (mask);
    const [left, top, width, height] = boxOf(runs, size);
    if (width === 0) throw new Error("The mask is empty: give one of an object.");
    const data = Float32Array.from(decodeRuns(runs, size), (pixel) => (pixel ? MASK_LOGIT : -MASK_LOGIT));
    const side = /** @type {Size} */ (this.#loaded().imageSize);
    const lowRes = resize({ data, ...size, channels: 1 }, side.width / 4, side.height / 4).data;
    const own = [left, top, left + width - 1, top + height - 1];
    return { masks: [lowRes], boxes: box ? [box] : points.length ? null : [own] };
  }

  /**
   * @param {{ pointsPerSide: number, frameIdx: number }} params
   * @param {Reports} reports
   * @returns {Promise<Found[]>}
   */
  async everything({ pointsPerSide, frameIdx }, { onProgress, isAborted }) {
    const whole = await (this.#session ? this.#session.picture(frameIdx) : this.#openPicture());
    const options = this.#session ? { ...this.#options, crops_n_layers: 0 } : this.#options;
    const encode = async (/** @type {import("./everything.js").Crop} */ { left, top, width, height, layer }) => {
      if (layer === 0) return whole;
      const part = await createImageBitmap(/** @type {ImageBitmap} */ (this.#bitmap), left, top, width, height);
      const picture = await this.#loaded().encode(part);
      part.close();
      return picture;
    };
    return findEverything({ encode, size: whole.size, pointsPerSide, options, onProgress, isAborted });
  }

  /**
   * @param {{ frameIdx: number, objectId: number, prompt: Prompt }} params
   * @returns {Promise<FoundFrame>}
   */
  async addPrompt({ frameIdx, objectId, prompt }) {
    const session = this.#openSession();
    const masks = prompt.mask && [decodeRuns(prompt.mask, /** @type {Size} */ (session.size))];
    const isGone = this.#isLive && frameIdx < session.numFrames - MAX_CACHED_FRAMES;
    const promptedIdx = isGone ? session.numFrames : frameIdx; // of a camera the next frame, which will answer it
    return session.unchangedByErrors(async () => {
      await session.addPrompts(promptedIdx, objectId, { ...asLists(prompt), masks, joinEarlier: true });
      return isGone ? { frameIdx: promptedIdx, objects: [] } : frameOf(await session.segment(promptedIdx));
    });
  }

  /**
   * @param {{ frameIdx: number, masks: ReadonlyMap<number, Uint32Array> }} params
   * @returns {Promise<FoundFrame>}
   */
  async addMasks({ frameIdx, masks }) {
    const session = this.#openSession();
    const decoded = [...masks.values()].map((runs) => decodeRuns(runs, /** @type {Size} */ (session.size)));
    return session.unchangedByErrors(async () => {
      await session.addPrompts(frameIdx, [...masks.keys()], { masks: decoded });
      return frameOf(await session.segment(frameIdx));
    });
  }

  /**
   * @param {{ frameIdx: number, objectId: number }} params
   * @returns {Promise<FoundFrame>}
   */
  async clearPrompts({ frameIdx, objectId }) {
    const session = this.#openSession();
    return session.unchangedByErrors(async () => {
      await session.clearPrompts(frameIdx, objectId);
      const reverse = session.isTrackedBack(frameIdx, objectId);
      // where it was tracked before it was corrected, that is found again
      return frameOf(await (reverse === null ? session.known(frameIdx) : session.segment(frameIdx, { reverse })));
    });
  }

  /** @param {{ objectId: number }} params */
  async removeObject({ objectId }) {
    const session = this.#openSession();
    if (session.objectIds.includes(objectId)) await session.removeObject(objectId);
  }

  /**
   * @param {{ start: number, count: number | null, isReverse: boolean }} params
   * @param {Reports} reports
   */
  async propagate({ start, count, isReverse }, { onFrame, isAborted }) {
    const options = { start, reverse: isReverse, ...(count === null ? {} : { count }) };
    for await (const output of this.#openSession().propagate(options)) {
      onFrame(frameOf(output));
      if (await isAborted()) break;
    }
  }

  async reset() {
    await this.#openSession().reset();
  }

  /**
   * @param {{ frame: ImageBitmap }} params
   * @returns {Promise<FoundFrame>}
   */
  async receive({ frame }) {
    const found = frameOf(await this.#openSession().receive(frame));
    frame.close();
    return found;
  }

  #loaded() {
    if (!this.#model) throw new Error("The model is not loaded: load the page again.");
    return this.#model;
  }

  #openPicture() {
    if (!this.#picture) throw new Error("No picture is open: open one first.");
    return this.#picture;
  }

  #openSession() {
    if (!this.#session) throw new Error("No video is open: open one first.");
    return this.#session;
  }

  #close() {
    this.#bitmap?.close();
    this.#bitmap = this.#picture = this.#session = null;
    this.#isLive = false;
  }
}

/**
 * Prompts of one object as pictures and sessions take them.
 *
 * @param {Prompt} prompt
 */
function asLists({ points, labels, box }) {
  return { points: points.length ? [points] : null, labels: points.length ? [labels] : null, boxes: box && [box] };
}

/**
 * @param {number} objectId
 * @param {FoundMask} mask
 * @returns {Found}
 */
function foundOf(objectId, mask) {
  return { objectId, runs: encodeRuns(mask.pixels, mask.size), iouScore: mask.iouScore, isPresent: mask.isPresent };
}

/**
 * What was found on a frame, without the objects that were never looked for there.
 *
 * @param {import("../tracking.js").FrameOutput} output
 * @returns {FoundFrame}
 */
function frameOf({ frameIdx, masks }) {
  const sought = [...masks].filter(([, { objectScoreLogit }]) => objectScoreLogit !== ABSENT_LOGIT);
  return { frameIdx, objects: sought.map(([objectId, mask]) => foundOf(objectId, mask)) };
}
