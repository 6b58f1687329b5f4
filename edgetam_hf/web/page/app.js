/**
 * The state of the page beside the document, and how work is done: one call of the engine after the other.
 *
 *     a gesture or a key -> an action -> the document and the engine -> `changed` -> every part of the page is drawn
 */
import { Queue } from "../queue.js";

/** @typedef {import("./engine.js").Engine} Engine */
/** @typedef {import("./engine.js").Settings} Settings */
/** @typedef {import("./engine.js").Found} Found */
/** @typedef {import("./engine.js").OnProgress} OnProgress */
/** @typedef {import("./project.js").Project} Project */
/** @typedef {import("./project.js").ProjectData} ProjectData */
/** @typedef {"on" | "off" | "box" | "pan"} Tool what a press on the picture does */

/**
 * @typedef {object} Task work that takes long, and can be stopped
 * @property {string} name
 * @property {number} done
 * @property {number} total 0 while it is unknown
 * @property {AbortController | null} controller of what can be stopped
 */

/**
 * @typedef {object} Notice something that the user has to know
 * @property {number} id
 * @property {string} text
 * @property {boolean} isError
 * @property {{ label: string, run: () => void }[]} choices
 */

/**
 * @typedef {object} Pointer where the mouse is
 * @property {number[]} point (x, y) in pixels of the picture
 * @property {number} label of the click that would be made there
 */

/**
 * @typedef {object} Everything the masks of all that is in a picture, to pick from
 * @property {Found[]} found
 * @property {Found | null} hovered
 * @property {Map<Found, number[]>} colours
 */

export class App {
  /** @type {Project | null} */
  project = null;
  /** @type {ImageBitmap | null} the frame that is shown */
  frame = null;
  frameIdx = 0;
  /** The frame that will be shown as soon as it is there. */
  wantedFrameIdx = 0;
  /** The object that clicks and boxes speak of. */
  currentId = 1;
  /** @type {Tool} */
  tool = "on";
  areMasksShown = true;
  isPlaying = false;
  /** @type {(() => void) | null} ends the camera */
  stopLive = null;
  /** @type {Uint32Array | null} the mask that a click would give where the pointer is */
  preview = null;
  /** @type {Pointer | null} */
  pointer = null;
  isHovering = false;
  /** @type {Everything | null} */
  everything = null;
  /** @type {WeakMap<readonly object[], Found[]>} candidates by what was said */
  candidates = new WeakMap();
  /** The engine was told a part of a change only, or may have been: it has to be told everything anew. */
  isEngineBehind = false;
  /** @type {ProjectData | null} a project that waits for its picture or video to be opened */
  waiting = null;
  /** @type {Task | null} */
  task = null;
  status = "";
  /** @type {Notice[]} */
  notices = [];
  numWaiting = 0;
  #queue = new Queue();
  /** @type {(() => void)[]} */
  #listeners = [];
  #isDrawing = false;
  #numNotices = 0;

  /**
   * @param {Engine} engine
   * @param {Settings} settings
   */
  constructor(engine, settings) {
    this.engine = engine;
    this.settings = settings;
  }

  /**
   * Calls a function after each change, once for a picture of the screen.
   *
   * @param {() => void} listener
   */
  listen(listener) {
    this.#listeners.push(listener);
  }

  /** Has every part of the page draw itself. */
  changed() {
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    requestAnimationFrame(() => {
      this.#isDrawing = false;
      for (const listener of this.#listeners) listener();
    });
  }

  /** Whether anything can be said of objects now. */
  get isOpen() {
    return this.project !== null && this.frame !== null;
  }

  get media() {
    return this.project?.media ?? null;
  }

  get current() {
    return this.project?.object(this.currentId) ?? null;
  }

  /** @param {string} text */
  say(text) {
    this.status = text;
    this.changed();
  }

  /**
   * Tells the user something that stays until it is dismissed.
   *
   * @param {string} text
   * @param {{ label: string, run: () => void }[]} [choices]
   * @param {boolean} [isError]
   */
  notify(text, choices = [], isError = false) {
    this.notices = [...this.notices.filter((notice) => notice.text !== text).slice(-2)];
    this.notices.push({ id: ++this.#numNotices, text, isError, choices });
    this.changed();
  }

  /** @param {number} id */
  dismiss(id) {
    this.notices = this.notices.filter((notice) => notice.id !== id);
    this.changed();
  }

  /**
   * Does what may fail; an error becomes a sentence in the page.
   *
   * @param {() => Promise<unknown>} task
   * @returns {Promise<boolean>} whether it was done
   */
  async attempt(task) {
    try {
      await task();
      return true;
    } catch (error) {
      const sentence = error instanceof Error ? error.message : String(error);
      this.status = sentence;
      this.notify(sentence, [], true);
      return false;
    } finally {
      this.changed();
    }
  }

  /**
   * Does a task of the engine once all earlier ones are done. What takes long is stopped first.
   *
   * @param {() => Promise<unknown>} task
   */
  async edit(task) {
    this.stop();
    this.preview = this.pointer = null;
    this.numWaiting++;
    this.changed();
    const isDone = await this.attempt(() => this.#queue.run(task));
    this.numWaiting--;
    this.changed();
    return isDone;
  }

  /**
   * Does a task of the engine in turn without stopping any: one that nobody waits for.
   *
   * @template T
   * @param {() => Promise<T>} task
   */
  inTurn(task) {
    return this.#queue.run(task);
  }

  /**
   * Does a task that takes long, with its progress on the page and a button to stop it.
   *
   * @param {string} name
   * @param {(onProgress: OnProgress, signal: AbortSignal) => Promise<void>} task
   * @param {boolean} [canStop]
   */
  long(name, task, canStop = true) {
    return this.edit(async () => {
      const controller = new AbortController();
      this.task = { name, done: 0, total: 0, controller: canStop ? controller : null };
      this.say(`${name} …`);
      try {
        await task((done, total) => {
          if (this.task) Object.assign(this.task, { done, total });
          this.changed();
        }, controller.signal);
      } finally {
        this.task = null;
      }
    });
  }

  /** Stops what takes long, and playing. */
  stop() {
    this.isPlaying = false;
    this.task?.controller?.abort();
    this.changed();
  }
}
