/** The Python session of a server as the engine of the page. */
import { bytesOf, decodeFound, encodeResults, joinBytes } from "./messages.js";
import { download, request, ServerConnection, upload } from "./server_connection.js";

/** @typedef {import("./engine.js").Engine} Engine */
/** @typedef {import("./engine.js").Found} Found */
/** @typedef {import("./engine.js").FoundFrame} FoundFrame */
/** @typedef {import("./engine.js").Media} Media */
/** @typedef {import("./engine.js").OnProgress} OnProgress */
/** @typedef {import("./engine.js").Prompt} Prompt */
/** @typedef {import("./server_connection.js").Answer} Answer */

const JPEG_QUALITY = 0.92; // of frames of a camera

/** @implements {Engine} */
export class ServerEngine {
  #connection;

  /**
   * @param {string} description
   * @param {ServerConnection} connection
   */
  constructor(description, connection) {
    this.description = description;
    this.#connection = connection;
  }

  /**
   * An engine with a session of its own, which ends with the page.
   *
   * @param {import("./engine.js").Settings} settings
   * @returns {Promise<ServerEngine>}
   */
  static async start({ model = "server" }) {
    const engine = new ServerEngine(model, await ServerConnection.start());
    addEventListener("pagehide", ({ persisted }) => {
      if (!persisted) engine.close();
    });
    return engine;
  }

  /**
   * @param {File | null} file
   * @param {OnProgress} [onProgress]
   * @returns {Promise<Media>}
   */
  async open(file, onProgress = () => {}) {
    await this.#renew();
    const path = this.#connection.address("media");
    if (!file) return (await request(path, { method: "POST" })).json();
    return upload(`${path}?name=${encodeURIComponent(file.name)}`, file, onProgress);
  }

  /** @param {number} frameIdx */
  async frame(frameIdx) {
    return createImageBitmap(await download(this.#connection.address(`frames/${frameIdx}.jpg`)));
  }

  /**
   * @param {Prompt} prompt
   * @param {boolean} isMultimask
   */
  async segment(prompt, isMultimask) {
    const { params, payload } = pack(prompt);
    return foundOf(await this.#connection.call("segment", { ...params, isMultimask }, { payload }));
  }

  /**
   * @param {{ pointsPerSide: number, frameIdx: number }} options
   * @param {OnProgress} onProgress
   * @param {AbortSignal} signal
   */
  async everything(options, onProgress, signal) {
    return foundOf(await this.#connection.call("everything", options, { onProgress, signal }));
  }

  /**
   * @param {number} frameIdx
   * @param {number} objectId
   * @param {Prompt} prompt
   */
  async addPrompt(frameIdx, objectId, prompt) {
    const { params, payload } = pack(prompt);
    return frameOf(await this.#connection.call("add_prompt", { frameIdx, objectId, ...params }, { payload }));
  }

  /**
   * @param {number} frameIdx
   * @param {ReadonlyMap<number, Uint32Array>} masks
   */
  async addMasks(frameIdx, masks) {
    const objects = [...masks].map(([objectId, runs]) => ({ objectId, numRuns: runs.length }));
    const payload = joinBytes([...masks.values()].map(bytesOf));
    return frameOf(await this.#connection.call("add_masks", { frameIdx, objects }, { payload }));
  }

  /**
   * @param {number} frameIdx
   * @param {number} objectId
   */
  async clearPrompts(frameIdx, objectId) {
    return frameOf(await this.#connection.call("clear_prompts", { frameIdx, objectId }));
  }

  /** @param {number} objectId */
  async removeObject(objectId) {
    await this.#connection.call("remove_object", { objectId });
  }

  /**
   * @param {{ start: number, count: number | null, isReverse: boolean }} range
   * @param {(found: FoundFrame) => void} onFrame
   * @param {AbortSignal} signal
   */
  async propagate(range, onFrame, signal) {
    await this.#connection.call("propagate", range, { onPart: (answer) => onFrame(frameOf(answer)), signal });
  }

  async reset() {
    await this.#connection.call("reset", {});
  }

  /**
   * @param {number} width
   * @param {number} height
   * @returns {Promise<Media>}
   */
  async startLive(width, height) {
    await this.#renew();
    return (await this.#connection.call("start_live", { width, height })).header.result;
  }

  /** @param {ImageBitmap} frame */
  async receive(frame) {
    const canvas = new OffscreenCanvas(frame.width, frame.height);
    canvas.getContext("2d")?.drawImage(frame, 0, 0);
    frame.close();
    const picture = await canvas.convertToBlob({ type: "image/jpeg", quality: JPEG_QUALITY });
    const payload = new Uint8Array(await picture.arrayBuffer());
    return frameOf(await this.#connection.call("receive", {}, { payload }));
  }

  /**
   * @param {import("./engine.js").Results} results
   * @param {OnProgress} onProgress
   * @param {AbortSignal} signal
   */
  async overlay(results, onProgress, signal) {
    onProgress(0, results.frames.length);
    const path = this.#connection.address("overlay");
    const film = await download(path, { method: "POST", body: encodeResults(results), signal });
    onProgress(results.frames.length, results.frames.length);
    return film;
  }

  async close() {
    await this.#connection.close();
  }

  /** Begins a new session if the server has forgotten this one: what is opened needs nothing of it. */
  async #renew() {
    if (!(await this.#connection.isKnown())) this.#connection = await ServerConnection.start();
  }
}

/**
 * A prompt as it is sent: its mask apart, as bytes.
 *
 * @param {Prompt} prompt
 */
function pack({ points, labels, box, mask }) {
  const params = { prompt: { points, labels, box, mask: mask !== null } };
  return { params, payload: mask ? bytesOf(mask) : undefined };
}

/**
 * @param {Answer} answer
 * @returns {Found[]}
 */
function foundOf({ header, payload }) {
  return decodeFound(header, payload);
}

/**
 * @param {Answer} answer
 * @returns {FoundFrame}
 */
function frameOf(answer) {
  return { frameIdx: answer.header.frameIdx, objects: foundOf(answer) };
}
