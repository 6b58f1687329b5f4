/** `edgetam.js` in a worker of this browser as the engine of the page. */
import { Film } from "./film.js";
import { recordOverlay } from "./overlay_film.js";

/** @typedef {import("./engine.js").Engine} Engine */
/** @typedef {import("./engine.js").Found} Found */
/** @typedef {import("./engine.js").FoundFrame} FoundFrame */
/** @typedef {import("./engine.js").Media} Media */
/** @typedef {import("./engine.js").OnProgress} OnProgress */
/** @typedef {import("./engine.js").Prompt} Prompt */
/** @typedef {import("./engine.js").Settings} Settings */

/**
 * @typedef {object} CallOptions
 * @property {Transferable[]} [transfer]
 * @property {OnProgress} [onProgress]
 * @property {(found: FoundFrame) => void} [onFrame]
 * @property {AbortSignal} [signal]
 */

const ROOT = new URL("../", import.meta.url);
const DEVICE_NAMES = { webgpu: "WebGPU", wasm: "WebAssembly" };
const MOST_PIXELS = 100e6; // of a picture; browsers keep four bytes of each, several times

/** @implements {Engine} */
export class BrowserEngine {
  #calls;
  #sample;
  /** @type {ImageBitmap | null} */
  #picture = null;
  /** @type {Film | null} */
  #film = null;
  #mediaIdx = 0; // counts what was opened, so that nothing takes frames of another video

  /**
   * @param {WorkerCalls} calls
   * @param {string | null} sample name of the file that is open from the start
   */
  constructor(calls, sample) {
    this.#calls = calls;
    this.#sample = sample;
    this.description = "in this browser";
    calls.frameAt = (mediaIdx, frameIdx) => this.#frameOf(mediaIdx, frameIdx);
  }

  /**
   * An engine with the model that the settings name.
   *
   * @param {Settings} settings
   * @returns {Promise<BrowserEngine>}
   */
  static async start({ model = "model", ort = "ort", device = "webgpu", dtype = "fp32", media = null }) {
    const engine = new BrowserEngine(new WorkerCalls(), media);
    const folders = { model: new URL(model, ROOT).href, ort: new URL(`${ort}/`, ROOT).href };
    const loaded = await engine.#calls.call("load", { ...folders, device, dtype });
    const name = DEVICE_NAMES[/** @type {keyof typeof DEVICE_NAMES} */ (loaded.device)];
    engine.description = `in this browser (${name}, ${dtype})`;
    return engine;
  }

  /**
   * @param {File | null} file
   * @param {OnProgress} [onProgress]
   * @returns {Promise<Media>}
   */
  async open(file, onProgress = () => {}) {
    const given = file ?? (await this.#fetchSample());
    onProgress(0, 1);
    const picture = given.type.startsWith("video/") ? null : await readPicture(given);
    const media = await (picture ? this.#openPicture(picture) : this.#openVideo(given));
    onProgress(1, 1);
    return { name: given.name, ...media };
  }

  /** @param {number} frameIdx */
  async frame(frameIdx) {
    if (this.#picture) return createImageBitmap(this.#picture);
    if (this.#film) return this.#film.frameAt(frameIdx);
    throw new Error("Nothing is open that has frames: open a picture or a video.");
  }

  /**
   * @param {Prompt} prompt
   * @param {boolean} isMultimask
   * @returns {Promise<Found[]>}
   */
  segment(prompt, isMultimask) {
    return this.#calls.call("segment", { prompt, isMultimask });
  }

  /**
   * @param {{ pointsPerSide: number, frameIdx: number }} options
   * @param {OnProgress} onProgress
   * @param {AbortSignal} signal
   * @returns {Promise<Found[]>}
   */
  everything(options, onProgress, signal) {
    return this.#calls.call("everything", options, { onProgress, signal });
  }

  /**
   * @param {number} frameIdx
   * @param {number} objectId
   * @param {Prompt} prompt
   * @returns {Promise<FoundFrame>}
   */
  addPrompt(frameIdx, objectId, prompt) {
    return this.#calls.call("addPrompt", { frameIdx, objectId, prompt });
  }

  /**
   * @param {number} frameIdx
   * @param {ReadonlyMap<number, Uint32Array>} masks
   * @returns {Promise<FoundFrame>}
   */
  addMasks(frameIdx, masks) {
    return this.#calls.call("addMasks", { frameIdx, masks });
  }

  /**
   * @param {number} frameIdx
   * @param {number} objectId
   * @returns {Promise<FoundFrame>}
   */
  clearPrompts(frameIdx, objectId) {
    return this.#calls.call("clearPrompts", { frameIdx, objectId });
  }

  /** @param {number} objectId */
  removeObject(objectId) {
    return this.#calls.call("removeObject", { objectId });
  }

  /**
   * @param {{ start: number, count: number | null, isReverse: boolean }} range
   * @param {(found: FoundFrame) => void} onFrame
   * @param {AbortSignal} signal
   */
  propagate(range, onFrame, signal) {
    return this.#calls.call("propagate", range, { onFrame, signal });
  }

  reset() {
    return this.#calls.call("reset", {});
  }

  /**
   * @param {number} width
   * @param {number} height
   * @returns {Promise<Media>}
   */
  async startLive(width, height) {
    await this.#calls.call("openLive", {});
    this.#replace(null, null);
    return { kind: "live", name: "camera", width, height, numFrames: 0, frameRate: 0, hasSound: false };
  }

  /**
   * @param {ImageBitmap} frame
   * @returns {Promise<FoundFrame>}
   */
  receive(frame) {
    return this.#calls.call("receive", { frame }, { transfer: [frame] });
  }

  /**
   * @param {import("./engine.js").Results} results
   * @param {OnProgress} onProgress
   * @param {AbortSignal} signal
   */
  async overlay(results, onProgress, signal) {
    if (!this.#film) throw new Error("No video is open: open one first.");
    return recordOverlay(this.#film, results, onProgress, signal);
  }

  async close() {
    this.#calls.close();
    this.#replace(null, null);
  }

  /** @param {ImageBitmap} picture */
  async #openPicture(picture) {
    const { width, height } = picture;
    const bitmap = await createImageBitmap(picture);
    await this.#calls.call("openPicture", { bitmap }, { transfer: [bitmap] });
    this.#replace(picture, null);
    return { kind: /** @type {const} */ ("picture"), width, height, numFrames: 1, frameRate: 0, hasSound: false };
  }

  /** @param {File} file */
  async #openVideo(file) {
    const film = await Film.open(file);
    const { width, height, numFrames, frameRate, hasSound } = film;
    const mediaIdx = this.#mediaIdx + 1;
    try {
      await this.#calls.call("openVideo", { width, height, numFrames, mediaIdx });
    } catch (error) {
      film.close();
      throw error;
    }
    this.#replace(null, film);
    return { kind: /** @type {const} */ ("video"), width, height, numFrames, frameRate, hasSound };
  }

  /**
   * @param {ImageBitmap | null} picture
   * @param {Film | null} film
   */
  #replace(picture, film) {
    this.#picture?.close();
    this.#film?.close();
    this.#picture = picture;
    this.#film = film;
    this.#mediaIdx++;
  }

  /**
   * @param {number} mediaIdx
   * @param {number} frameIdx
   */
  async #frameOf(mediaIdx, frameIdx) {
    if (mediaIdx !== this.#mediaIdx || !this.#film) throw new Error("Another file was opened meanwhile.");
    return this.#film.frameAt(frameIdx);
  }

  async #fetchSample() {
    if (!this.#sample) throw new Error("There is no file to begin with: open a picture or a video.");
    const response = await fetch(new URL(this.#sample, ROOT));
    if (!response.ok) throw new Error(`${this.#sample} cannot be fetched: status ${response.status}.`);
    const blob = await response.blob();
    return new File([blob], this.#sample, { type: blob.type });
  }
}

/** Calls of the worker by number, see `browser_worker.js`. */
class WorkerCalls {
  #worker = new Worker(new URL("./browser_worker.js", import.meta.url), { type: "module" });
  /** @type {Map<number, { resolve: (result: any) => void, reject: (error: Error) => void, options: CallOptions }>} */
  #waiting = new Map();
  #numCalls = 0;
  /** @type {(mediaIdx: number, frameIdx: number) => Promise<ImageBitmap>} */
  frameAt = () => Promise.reject(new Error("No video is open: open one first."));

  constructor() {
    this.#worker.onmessage = ({ data }) => ("request" in data ? this.#sendFrame(data) : this.#receive(data));
    this.#worker.onerror = ({ message }) => {
      const error = new Error(`The model stopped (${message || "its script cannot be loaded"}): load the page again.`);
      for (const { reject } of this.#waiting.values()) reject(error);
    };
  }

  /**
   * What a method of `BrowserModel` returns.
   *
   * @param {keyof import("./browser_model.js").Calls} method
   * @param {object} params
   * @param {CallOptions} [options]
   * @returns {Promise<any>}
   */
  call(method, params, options = {}) {
    const id = ++this.#numCalls;
    const cancel = () => this.#worker.postMessage({ id, isCancelled: true });
    /** @type {Promise<any>} */
    const result = new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject, options }));
    this.#worker.postMessage({ id, method, params }, options.transfer ?? []);
    options.signal?.addEventListener("abort", cancel);
    if (options.signal?.aborted) cancel();
    return result.finally(() => {
      this.#waiting.delete(id);
      options.signal?.removeEventListener("abort", cancel);
    });
  }

  close() {
    this.#worker.terminate();
    for (const { reject } of this.#waiting.values()) reject(new Error("The page was closed."));
  }

  /** @param {{ id: number, result?: any, error?: string, progress?: [number, number], found?: FoundFrame }} message */
  #receive({ id, result, error, progress, found }) {
    const call = this.#waiting.get(id);
    if (!call) return;
    if (error !== undefined) call.reject(new Error(error));
    else if (progress) call.options.onProgress?.(...progress);
    else if (found) call.options.onFrame?.(found);
    else call.resolve(result);
  }

  /** @param {{ request: number, mediaIdx: number, frameIdx: number }} message */
  async #sendFrame({ request, mediaIdx, frameIdx }) {
    try {
      const frame = await this.frameAt(mediaIdx, frameIdx);
      this.#worker.postMessage({ request, frame }, [frame]);
    } catch (error) {
      this.#worker.postMessage({ request, error: /** @type {Error} */ (error).message });
    }
  }
}

/**
 * A picture, turned as its EXIF data say; `null` if the file is none. Throws an Error if it is too large.
 *
 * @param {File} file
 * @returns {Promise<ImageBitmap | null>}
 */
async function readPicture(file) {
  const picture = await createImageBitmap(file, { colorSpaceConversion: "none" }).catch(() => null);
  if (picture && picture.width * picture.height > MOST_PIXELS) {
    const { width, height } = picture;
    picture.close();
    const most = `${MOST_PIXELS / 1e6} million`;
    throw new Error(`${file.name} has ${width} x ${height} pixels, more than ${most}: make it smaller.`);
  }
  if (!picture && file.type.startsWith("image/")) {
    const reasons = "it is damaged, too large, or of another format";
    throw new Error(`${file.name} is no picture that this browser can read: ${reasons}.`);
  }
  return picture;
}
