/** All that is known of the objects of a video or stream, changed in a copy that takes the place of the original. */
import { TrackedObject } from "./memory.js";

/** @typedef {import("./memory.js").FrameResult} FrameResult */
/** @typedef {import("./memory.js").Prompt} Prompt */
/** @typedef {import("./memory.js").Reach} Reach */
/** @typedef {import("./types.js").Embeddings} Embeddings */
/** @typedef {import("./types.js").Size} Size */

/**
 * @typedef {object} Settings of a session
 * @property {number | null} numFrames of the video, `null` of a stream
 * @property {((frameIdx: number) => any) | null} frameAt a frame of the video, or a promise of one
 * @property {number} maxCachedFrames frames whose image embeddings are kept; in a stream these can be prompted
 * @property {number | null} maxMemoryFrames frames that can be corrected as if nothing were forgotten; `null` of a
 *     video: all, of a stream: those whose image embeddings are kept
 * @property {number} maxObjectsPerBatch objects that are computed at once
 * @property {import("./memory_selection.js").MemorySelection} memorySelection what objects remember
 */

export class SessionState {
  /**
   * Objects by id, in the order of their first prompts.
   *
   * @type {Map<number, TrackedObject>}
   */
  objects = new Map();
  /**
   * Image embeddings by frame, the oldest first.
   *
   * @type {Map<number, Embeddings>}
   */
  embeddings = new Map();
  numStreamed = 0;
  /** @type {Size | null} of the frames; in a stream known from the first frame or prompt on */
  size = null;

  /** @param {Settings} settings */
  constructor(settings) {
    this.settings = settings;
  }

  /** A state that can be changed without changing this one. */
  copy() {
    const copy = new SessionState(this.settings);
    for (const [id, object] of this.objects) copy.objects.set(id, object.copy());
    copy.embeddings = new Map(this.embeddings);
    copy.numStreamed = this.numStreamed;
    copy.size = this.size;
    return copy;
  }

  get isStream() {
    return this.settings.frameAt === null;
  }

  /** Number of frames of the video, or of the stream so far. */
  get numFrames() {
    return this.settings.numFrames ?? this.numStreamed;
  }

  /** Number of frames that can be corrected as if nothing were ever forgotten; `null` if nothing is. */
  get numKept() {
    const { maxMemoryFrames, maxCachedFrames } = this.settings;
    return maxMemoryFrames ?? (this.isStream ? maxCachedFrames : null);
  }

  /**
   * An object; throws a RangeError if it is unknown.
   *
   * @param {number} objectId
   */
  object(objectId) {
    const object = this.objects.get(objectId);
    if (!object) {
      throw new RangeError(`object ${objectId} is unknown; the objects are ${[...this.objects.keys()].join(", ")}`);
    }
    return object;
  }

  /**
   * Throws a RangeError for a frame that cannot be prompted.
   *
   * @param {number} frameIdx
   */
  checkFrame(frameIdx) {
    if (frameIdx < 0 || (!this.isStream && frameIdx >= this.numFrames)) {
      const last = this.isStream ? "" : ` and at most ${this.numFrames - 1}`;
      throw new RangeError(`frameIdx must be at least 0${last}, got ${frameIdx}`);
    }
    if (this.isStream && frameIdx < this.numStreamed && !this.embeddings.has(frameIdx)) {
      throw new RangeError(
        `frame ${frameIdx} of the stream is gone, only ${[...this.embeddings.keys()].join(", ")} and later ones can ` +
          "be used; a larger maxCachedFrames keeps more",
      );
    }
  }

  /**
   * Throws a RangeError for a frame that is not there.
   *
   * @param {number} frameIdx
   */
  checkPresent(frameIdx) {
    this.checkFrame(frameIdx);
    if (this.isStream && !this.embeddings.has(frameIdx)) {
      throw new RangeError(`frame ${frameIdx} of the stream has not arrived: give it with session.receive(frame)`);
    }
  }

  /**
   * Takes note of the size of the frames; throws a RangeError for frames of several sizes.
   *
   * @param {Size} size
   */
  checkSize({ width, height }) {
    if (this.size && (this.size.width !== width || this.size.height !== height)) {
      const { width: knownWidth, height: knownHeight } = this.size;
      throw new RangeError(`all frames must have ${knownWidth} x ${knownHeight} pixels, got ${width} x ${height}`);
    }
    this.size = { width, height };
  }

  /**
   * Index of a frame of a stream that arrives now; frames may be left out, but not go back.
   *
   * @param {number} frameIdx
   */
  checkNext(frameIdx) {
    if (!this.isStream) throw new RangeError("this session has a whole video: call segment(frameIdx)");
    if (frameIdx < this.numStreamed) {
      throw new RangeError(`frames of a stream must follow each other, got ${frameIdx} after ${this.numStreamed - 1}`);
    }
    for (const [id, object] of this.objects) {
      const leftOut = object.promptedFrames.find((t) => this.numStreamed <= t && t < frameIdx);
      if (leftOut !== undefined) {
        throw new RangeError(
          `frame ${frameIdx} would leave out frame ${leftOut}, on which object ${id} was prompted: give that frame ` +
            `first, or take the prompt back with session.clearPrompts(${leftOut}, ${id})`,
        );
      }
    }
  }

  /**
   * Frames to track: a first one, by default the earliest that begins an object, and at most so many after it.
   *
   * @param {number | null} start
   * @param {number} count
   * @param {boolean} reverse
   * @returns {number[]}
   */
  propagationFrames(start, count, reverse) {
    const prompted = [...this.objects.values()].flatMap((object) => object.conditioningFrames());
    if (prompted.length === 0) throw new RangeError("no object has a prompt yet: call session.addPrompts first");
    const first = start ?? Math.min(...prompted);
    // a video that is tracked back from its first frame has nothing to track
    const numLeft = reverse ? first + Number(first > 0) : this.numFrames - first;
    const length = Math.min(count + 1, numLeft);
    return Array.from({ length }, (_, i) => first + (reverse ? -i : i));
  }

  /**
   * Whether a frame has prompts that were never answered.
   *
   * @param {number} frameIdx
   */
  isNew(frameIdx) {
    return [...this.objects.values()].some((object) => object.isNew(frameIdx));
  }

  /**
   * Ids of the objects with unanswered prompts, by frame, for all frames whose results are needed on a frame.
   *
   * Where nothing is forgotten these are all frames that are there.
   *
   * @param {number} frameIdx
   * @param {boolean} reverse
   * @param {Reach} reach
   * @returns {[number, number[]][]}
   */
  unansweredInReach(frameIdx, reverse, reach) {
    /** @type {Map<number, number[]>} */
    const unanswered = new Map();
    for (const [id, object] of this.objects) {
      for (const t of this.#framesInReach(object, frameIdx, reverse, reach)) {
        if (object.on(t).unanswered.length > 0) unanswered.set(t, [...(unanswered.get(t) ?? []), id]);
      }
    }
    return [...unanswered].sort(([a], [b]) => a - b);
  }

  /**
   * @param {TrackedObject} object
   * @param {number} frameIdx
   * @param {boolean} reverse
   * @param {Reach} reach
   * @returns {Iterable<number>}
   */
  #framesInReach(object, frameIdx, reverse, reach) {
    if (this.isStream) return this.embeddings.keys();
    return this.numKept === null ? object.keyFrames : object.framesInReach(frameIdx, reverse, reach);
  }

  // Changes by users.

  /**
   * Adds a prompt of an object on a frame; an unknown id begins a new object.
   *
   * @param {number} frameIdx
   * @param {number} objectId
   * @param {Prompt} prompt
   */
  addPrompt(frameIdx, objectId, prompt) {
    const object = this.objects.get(objectId) ?? new TrackedObject();
    object.addPrompt(frameIdx, prompt);
    this.objects.set(objectId, object);
  }

  /**
   * Takes back all prompts of an object on a frame, and what was found there: as if they had not been given.
   *
   * @param {number} frameIdx
   * @param {number} objectId
   */
  clearPrompts(frameIdx, objectId) {
    const object = this.object(objectId);
    if (!object.promptedFrames.includes(frameIdx)) {
      const frames = object.promptedFrames.join(", ") || "none";
      throw new RangeError(`object ${objectId} has no prompt on frame ${frameIdx}, only on: ${frames}`);
    }
    object.clearPrompts(frameIdx);
  }

  // Changes by tracking.

  /**
   * Keeps the image embeddings of a frame, and of as many frames before as the session allows.
   *
   * @param {number} frameIdx
   * @param {Embeddings} embeddings
   */
  cacheEmbeddings(frameIdx, embeddings) {
    this.embeddings.delete(frameIdx);
    for (const oldest of [...this.embeddings.keys()]) {
      if (this.embeddings.size < this.settings.maxCachedFrames) break;
      this.embeddings.delete(oldest);
    }
    this.embeddings.set(frameIdx, embeddings);
  }

  /**
   * Goes on to the next frame of a stream; what was found on earlier ones becomes memory.
   *
   * @param {number} frameIdx
   * @param {Embeddings} embeddings
   */
  receiveFrame(frameIdx, embeddings) {
    for (const object of this.objects.values()) {
      for (const t of object.stagedFrames) object.markDirection(t, false);
    }
    this.commitAnswers();
    this.cacheEmbeddings(frameIdx, embeddings);
    this.numStreamed = frameIdx + 1;
  }

  /**
   * Drops answers on a frame whose masks were dropped, so that the prompts are answered again.
   *
   * @param {number} frameIdx
   */
  reopenPrompts(frameIdx) {
    for (const object of this.objects.values()) {
      const { prompts, newest } = object.on(frameIdx);
      if (prompts.length > 0 && newest && !newest.mask) object.dropResults(frameIdx);
    }
  }

  /**
   * Notes that tracking goes through a frame whose prompts were answered before, but are unanswered again.
   *
   * @param {number} frameIdx
   * @param {boolean} reverse
   */
  markReopened(frameIdx, reverse) {
    for (const object of this.objects.values()) {
      if (object.on(frameIdx).unanswered.length > 0 && !object.isNew(frameIdx)) object.markDirection(frameIdx, reverse);
    }
  }

  /**
   * Keeps answers to the next unanswered prompts on a frame, by object id, until tracking goes on.
   *
   * @param {number} frameIdx
   * @param {Map<number, FrameResult>} results
   */
  stageAnswers(frameIdx, results) {
    for (const [id, result] of results) this.object(id).stage(frameIdx, result);
  }

  /** Lets staged answers become memory: tracking goes on. */
  commitAnswers() {
    for (const object of this.objects.values()) object.commit();
  }

  /**
   * Keeps results that were found before, then dropped and now found again, by object id.
   *
   * @param {number} frameIdx
   * @param {Map<number, FrameResult>} results
   */
  restoreResults(frameIdx, results) {
    for (const [id, result] of results) this.object(id).remember(frameIdx, result);
  }

  /**
   * Keeps what tracking finds on a frame, by object id; it went through that frame for all objects.
   *
   * An object that is missing in `results` has an answer to prompts on the frame, which stays.
   *
   * @param {number} frameIdx
   * @param {Map<number, FrameResult>} results
   * @param {boolean} reverse
   */
  recordTracked(frameIdx, results, reverse) {
    for (const [id, object] of this.objects) {
      if (object.hasConditioning && !object.on(frameIdx).staged) {
        object.markTracked(frameIdx, reverse, results.get(id));
      }
    }
  }

  /**
   * Drops what is out of reach after a frame.
   *
   * @param {number} frameIdx
   * @param {Reach} reach
   */
  forget(frameIdx, reach) {
    if (this.numKept === null) return;
    for (const object of this.objects.values()) {
      object.forget(frameIdx, this.numKept, reach);
      if (this.isStream) object.forgetPromptsBefore(Math.min(...this.embeddings.keys()));
    }
  }
}
