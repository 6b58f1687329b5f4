/**
 * EdgeTAM in JavaScript: objects in pictures and videos, found where users point, in browsers and in Node.
 *
 *     import * as ort from "onnxruntime-web";
 *     import { EdgeTam } from "./edgetam.js";
 *
 *     const model = await EdgeTam.load("models/edgetam", { ort });
 *     const picture = await model.encode(canvas);
 *     const [[mask]] = await picture.prompt({ points: [[[120, 80]]], multimask: false });
 *
 * `mask.pixels` is 1 on the object and 0 elsewhere, at the size of the picture. See `VideoSession` for videos.
 */
import { describe } from "./checks.js";
import { fetchFrom, readDescription } from "./folder.js";
import { frameEmbeddings } from "./frames.js";
import { availableDevice, Graphs } from "./graphs.js";
import { Picture } from "./picture.js";
import { VideoSession } from "./session.js";
import { PICTURE_GRAPHS, Stages, VIDEO_GRAPHS } from "./stages.js";

export { FORMAT_VERSION } from "./folder.js";
export { FoundMask } from "./masks.js";
export { Picture } from "./picture.js";
export { VideoSession } from "./session.js";

/** @typedef {import("./folder.js").ReadFile} ReadFile */
/** @typedef {import("./graphs.js").Device} Device */
/** @typedef {import("./graphs.js").DType} DType */
/** @typedef {import("./session.js").SessionOptions} SessionOptions */
/** @typedef {import("./types.js").Frame} Frame */
/** @typedef {import("./types.js").Ort} Ort */

/**
 * @typedef {object} LoadOptions
 * @property {Ort} ort ONNX Runtime, `import * as ort from "onnxruntime-web"` (with WebGPU `"onnxruntime-web/webgpu"`)
 * @property {Device} [device] "webgpu" by default, which becomes "wasm" where there is none
 * @property {DType} [dtype] which of the exported files: "fp32" (the default), "fp16" or "q8"
 * @property {ReadFile} [read] gives the bytes of a file of the folder instead of fetch, `(path) => Promise<Uint8Array>`
 */

export class EdgeTam {
  #graphs;
  #stages;

  /**
   * @param {Graphs} graphs
   * @param {Stages} stages
   */
  constructor(graphs, stages) {
    this.#graphs = graphs;
    this.#stages = stages;
  }

  /**
   * The model of a folder that `edgetam export` has written. What videos need is loaded with the first session.
   *
   * @param {string | URL} folder its address
   * @param {LoadOptions} options
   * @returns {Promise<EdgeTam>}
   */
  static async load(folder, { ort, device = "webgpu", dtype = "fp32", read = fetchFrom(folder) }) {
    if (!ort?.InferenceSession) {
      throw new TypeError(`ort must be ONNX Runtime, import * as ort from "onnxruntime-web", got ${describe(ort)}`);
    }
    const description = await readDescription(read);
    const graphs = new Graphs(ort, read, await availableDevice(device), dtype);
    await graphs.load(PICTURE_GRAPHS);
    return new EdgeTam(graphs, new Stages(graphs, description));
  }

  /** Where graphs run now, "webgpu" or "wasm": when WebGPU fails, WebAssembly goes on in its place. */
  get device() {
    return this.#graphs.device;
  }

  /** Why WebGPU was left, `null` if it was not. */
  get deviceError() {
    return this.#graphs.deviceError;
  }

  /** Size of the model input in pixels. */
  get imageSize() {
    return this.#stages.description.imageSize;
  }

  /** Whether the folder has what videos need. */
  get canTrack() {
    return this.#stages.description.tracking !== null;
  }

  /**
   * A picture to be prompted; this is what takes time.
   *
   * @param {Frame} frame
   * @returns {Promise<Picture>}
   */
  async encode(frame) {
    const { embeddings, size } = await frameEmbeddings(this.#stages, frame);
    return new Picture(this.#stages, embeddings, size);
  }

  /**
   * A session for a video, or without `frameAt` for a stream of frames.
   *
   * @param {SessionOptions} [options]
   * @returns {Promise<VideoSession>}
   */
  async startSession(options = {}) {
    const { tracking } = this.#stages.description;
    if (!tracking) throw new Error("the folder was exported for pictures only: export a video model");
    const session = new VideoSession(this.#stages, tracking, options);
    await this.#graphs.load(VIDEO_GRAPHS);
    return session;
  }

  /**
   * Frees the memory of the graphs; they are loaded again when they are needed.
   *
   * @returns {Promise<void>}
   */
  async release() {
    await this.#graphs.release();
  }
}
