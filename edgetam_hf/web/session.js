/** Tracking of objects through a video or a stream of frames, as users call it. */
import { readCount, readInteger, readObjectIds } from "./checks.js";
import { frameEmbeddings } from "./frames.js";
import { packMask } from "./masks.js";
import { afterEarlier } from "./memory.js";
import { MemorySelection } from "./memory_selection.js";
import { Picture } from "./picture.js";
import { countObjects, readClicks, readMask } from "./prompts.js";
import { Queue } from "./queue.js";
import { SessionState } from "./state.js";
import { Tracker } from "./tracking.js";

/** @typedef {import("./stages.js").Stages} Stages */
/** @typedef {import("./state.js").Settings} Settings */
/** @typedef {import("./tracking.js").FrameOutput} FrameOutput */
/** @typedef {import("./types.js").Frame} Frame */
/** @typedef {import("./types.js").PromptInput} PromptInput */
/** @typedef {import("./types.js").Size} Size */
/** @typedef {import("./types.js").TrackingConfig} TrackingConfig */

/**
 * @typedef {object} SessionOptions
 * @property {(frameIdx: number) => Frame | Promise<Frame>} [frameAt] gives a frame of the video when it is needed; left
 *     out for a stream. It must not wait for the session.
 * @property {number} [numFrames] of the video
 * @property {number} [width] of the frames in pixels; of a stream known from its first frame on
 * @property {number} [height]
 * @property {number} [maxCachedFrames] frames whose image embeddings are kept, 1 by default; in a stream these are the
 *     frames that can be prompted
 * @property {number} [maxMemoryFrames] frames, those that were tracked last, that can be shown and corrected as if
 *     nothing were ever forgotten. By default all of a video, whose memory then grows, and of a stream those whose
 *     image embeddings are kept.
 * @property {number} [maxObjectsPerBatch] objects that are computed at once, 8 by default
 * @property {"recent" | "confident" | Partial<import("./memory_selection.js").Selection>} [memorySelection] what
 *     objects remember: the last frames, as by default; with "confident" also what they looked like where they began
 */

/**
 * A video, or a stream of frames, with the objects that are tracked in it.
 *
 * Calls take effect one after the other, in the order in which they were made. After an error a session is as it was
 * before the call.
 */
export class VideoSession {
  #stages;
  #config;
  #state;
  #queue = new Queue();

  /**
   * @param {Stages} stages
   * @param {TrackingConfig} config
   * @param {SessionOptions} options
   */
  constructor(stages, config, options) {
    const settings = readSettings(options);
    this.#stages = stages;
    this.#config = config;
    this.#state = new SessionState(settings);
    if (options.width !== undefined || options.height !== undefined || settings.frameAt) {
      this.#state.size = { width: readCount(options.width, "width"), height: readCount(options.height, "height") };
    }
  }

  /** Ids of the objects, in the order of their first prompts. */
  get objectIds() {
    return [...this.#state.objects.keys()];
  }

  /** Number of frames of the video, or of the stream so far. */
  get numFrames() {
    return this.#state.numFrames;
  }

  /** Size of the frames, `null` in a stream that has none yet. */
  get size() {
    return this.#state.size;
  }

  /**
   * Frames with prompts of an object, sorted.
   *
   * @param {number} objectId
   */
  promptedFrames(objectId) {
    return this.#state.object(objectId).promptedFrames;
  }

  /**
   * Whether tracking of an object last went back in time through a frame; `null` if it did not go through it.
   *
   * @param {number} frameIdx
   * @param {number} objectId
   */
  isTrackedBack(frameIdx, objectId) {
    return this.#state.object(objectId).directionAt(frameIdx);
  }

  /**
   * What a task of several calls returns. If it fails, the session is as it was before, also after calls that went well.
   *
   * @template T
   * @param {() => Promise<T>} task
   * @returns {Promise<T>}
   */
  async unchangedByErrors(task) {
    const before = this.#state; // every change makes a copy
    try {
      return await task();
    } catch (error) {
      this.#state = before;
      throw error;
    }
  }

  /**
   * Adds prompts of objects on a frame, which `segment`, `propagate` and `receive` answer. Unknown ids begin objects.
   *
   * Masks have the size of the frames, and replace clicks and boxes; an empty mask says that the object is absent.
   * Clicks replace earlier ones on the frame, or with `joinEarlier` come after them. In any case the mask that was
   * found there is taken into account.
   *
   * @param {number} frameIdx
   * @param {number | number[]} objectIds
   * @param {PromptInput & { masks?: any[] | null, joinEarlier?: boolean }} prompts an entry for each object
   * @returns {Promise<void>}
   */
  async addPrompts(frameIdx, objectIds, { points, labels, boxes, masks, joinEarlier = false }) {
    await this.#change(async (state) => {
      state.checkFrame(readInteger(frameIdx, "frameIdx"));
      const ids = readObjectIds(objectIds);
      const numObjects = countObjects({ points, boxes, masks });
      if (numObjects !== ids.length) {
        throw new RangeError(`prompts must have one entry per object of [${ids}], got ${numObjects}`);
      }
      const { size } = state;
      if (!size) throw new RangeError("the size of the frames is not known yet: give width and height to startSession");
      const { imageSize } = this.#stages.description;
      const clicked = readClicks({ points, labels, boxes }, numObjects, size, imageSize);
      ids.forEach((id, i) => {
        const clicks = clicked[i];
        const given = masks?.[i] ? readMask(masks[i], size, imageSize, `masks[${i}]`) : null;
        if ((given !== null) === clicks.labels.length > 0) {
          const kinds = given ? "both a mask and clicks or a box" : "no prompt";
          throw new RangeError(`object ${id} has ${kinds} in this call: give it clicks, a box with them, or a mask`);
        }
        const prompt = { clicks, mask: given && packMask(given), isConditioning: null, isCorrection: null };
        const earlier = joinEarlier ? state.objects.get(id)?.on(frameIdx).prompts.at(-1) : undefined;
        state.addPrompt(frameIdx, id, afterEarlier(prompt, earlier));
      });
    });
  }

  /**
   * Takes back all prompts of an object on a frame, and what was found there: as if they had not been given.
   *
   * @param {number} frameIdx
   * @param {number} objectId
   * @returns {Promise<void>}
   */
  async clearPrompts(frameIdx, objectId) {
    await this.#change(async (state) => state.clearPrompts(readInteger(frameIdx, "frameIdx"), objectId));
  }

  /**
   * Stops tracking an object; the others are not affected.
   *
   * @param {number} objectId
   * @returns {Promise<void>}
   */
  async removeObject(objectId) {
    await this.#change(async (state) => {
      state.object(objectId);
      state.objects.delete(objectId);
    });
  }

  /**
   * Forgets all objects, prompts and results; a stream starts again at frame 0, with frames of any size.
   *
   * @returns {Promise<void>}
   */
  async reset() {
    await this.#queue.run(async () => {
      const { settings, size, isStream } = this.#state;
      this.#state = new SessionState(settings);
      this.#state.size = isStream ? null : size;
    });
  }

  /**
   * Masks of all objects on a frame that is there.
   *
   * New prompts on the frame are answered, and other objects are left as they are. Without new prompts all objects are
   * tracked, but for those whose result on the frame answers a prompt.
   *
   * @param {number} frameIdx
   * @param {{ reverse?: boolean }} [options] whether tracking goes back in time
   * @returns {Promise<FrameOutput>}
   */
  async segment(frameIdx, { reverse = false } = {}) {
    return this.#find(readInteger(frameIdx, "frameIdx"), async (tracker, state) => {
      state.checkPresent(frameIdx);
      await (state.isNew(frameIdx) ? tracker.answer(frameIdx) : tracker.track(frameIdx, reverse));
    });
  }

  /**
   * The masks that are known on a frame, of which nothing is computed; objects without one are absent.
   *
   * @param {number} frameIdx
   * @returns {Promise<FrameOutput>}
   */
  async known(frameIdx) {
    return this.#queue.run(async () => new Tracker(this.#stages, this.#config, this.#state).output(frameIdx));
  }

  /**
   * A frame that is there as a picture by itself, of which the session remembers nothing but its image embeddings.
   *
   * @param {number} frameIdx
   * @returns {Promise<Picture>}
   */
  async picture(frameIdx) {
    return this.#queue.run(async () => {
      const state = this.#state.copy();
      state.checkPresent(readInteger(frameIdx, "frameIdx"));
      const embeddings = await new Tracker(this.#stages, this.#config, state).embeddings(frameIdx);
      this.#state = state;
      return new Picture(this.#stages, embeddings, /** @type {Size} */ (state.size));
    });
  }

  /**
   * Masks of all objects on the next frame of a stream.
   *
   * @param {Frame} frame
   * @param {number} [frameIdx] its index, if frames were left out
   * @returns {Promise<FrameOutput>}
   */
  async receive(frame, frameIdx) {
    return this.#queue.run(async () => {
      const next = readInteger(frameIdx ?? this.#state.numStreamed, "frameIdx");
      return this.#findNow(next, async (tracker, state) => {
        state.checkNext(next);
        const { embeddings, size } = await frameEmbeddings(this.#stages, frame);
        state.checkSize(size);
        await tracker.receive(next, embeddings);
      });
    });
  }

  /**
   * Masks of all objects on frame after frame of a video: `for await (const output of session.propagate())`.
   *
   * Objects and prompts may be added and removed meanwhile, and count from the next frame on.
   *
   * @param {object} [options]
   * @param {number} [options.start] the first frame, by default the earliest on which an object begins
   * @param {number} [options.count] how many frames to go on after the first one, by default all
   * @param {boolean} [options.reverse] whether to go back in time
   * @returns {AsyncGenerator<FrameOutput, void>}
   */
  async *propagate({ start, count, reverse = false } = {}) {
    const frames = await this.#queue.run(async () => {
      const state = this.#state;
      if (state.isStream) throw new RangeError("a stream keeps no frames: give them one by one to receive(frame)");
      if (start !== undefined) state.checkFrame(readInteger(start, "start"));
      const numAfter = count === undefined ? state.numFrames : readCount(count, "count", 0);
      return state.propagationFrames(start ?? null, numAfter, reverse);
    });
    for (const frameIdx of frames) {
      yield await this.#find(frameIdx, (tracker) => tracker.track(frameIdx, reverse));
    }
  }

  /**
   * @param {number} frameIdx
   * @param {(tracker: Tracker, state: SessionState) => Promise<void>} work
   * @returns {Promise<FrameOutput>}
   */
  async #find(frameIdx, work) {
    return this.#queue.run(() => this.#findNow(frameIdx, work));
  }

  /**
   * The masks on a frame after some work, in a copy of the state that counts only if nothing fails.
   *
   * @param {number} frameIdx
   * @param {(tracker: Tracker, state: SessionState) => Promise<void>} work
   * @returns {Promise<FrameOutput>}
   */
  async #findNow(frameIdx, work) {
    const state = this.#state.copy();
    const tracker = new Tracker(this.#stages, this.#config, state);
    await work(tracker, state);
    const output = tracker.output(frameIdx);
    state.forget(frameIdx, tracker.reach);
    this.#state = state;
    return output;
  }

  /** @param {(state: SessionState) => Promise<void>} work changes a copy of the state, which counts if nothing fails */
  async #change(work) {
    await this.#queue.run(async () => {
      const state = this.#state.copy();
      await work(state);
      this.#state = state;
    });
  }
}

/**
 * @param {SessionOptions} options
 * @returns {Settings}
 */
function readSettings(options) {
  const { frameAt, numFrames, maxMemoryFrames } = options;
  const { maxCachedFrames = 1, maxObjectsPerBatch = 8, memorySelection = "recent" } = options;
  if ((frameAt === undefined) !== (numFrames === undefined)) {
    throw new TypeError("a video needs both frameAt and numFrames, and a stream neither");
  }
  return {
    frameAt: frameAt ?? null,
    numFrames: numFrames === undefined ? null : readCount(numFrames, "numFrames"),
    maxCachedFrames: readCount(maxCachedFrames, "maxCachedFrames"),
    maxMemoryFrames: maxMemoryFrames === undefined ? null : readCount(maxMemoryFrames, "maxMemoryFrames"),
    maxObjectsPerBatch: readCount(maxObjectsPerBatch, "maxObjectsPerBatch"),
    memorySelection: MemorySelection.of(memorySelection),
  };
}
