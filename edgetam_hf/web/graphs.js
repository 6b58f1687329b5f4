/** The graphs of an exported model at work, on WebGPU where there is one, else in WebAssembly. */
import { Queue } from "./queue.js";

/** @typedef {import("./folder.js").ReadFile} ReadFile */
/** @typedef {import("./types.js").Ort} Ort */
/** @typedef {import("./types.js").OrtSession} OrtSession */
/** @typedef {import("./types.js").Outputs} Outputs */
/** @typedef {import("./types.js").Tensor} Tensor */
/** @typedef {"webgpu" | "wasm"} Device */
/** @typedef {keyof typeof SUFFIXES} DType how weights are stored, as Transformers.js names it */

const SUFFIXES = { fp32: "", fp16: "_fp16", q8: "_quantized" }; // of the files
const PROVIDERS = { webgpu: "webgpu", wasm: "cpu" }; // "cpu" is WebAssembly in browsers

/**
 * Graphs that are loaded and run by name.
 *
 * Nothing stays on the device between two calls. So when WebGPU fails, or the browser takes it away, the call is
 * repeated in WebAssembly, where all later ones run, too.
 */
export class Graphs {
  /** @type {Map<string, OrtSession>} */
  #sessions = new Map();
  #queue = new Queue(); // ONNX Runtime runs one graph at a time
  #ort;
  #read;
  #suffix;
  /** @type {unknown} the GPU that is watched */
  #watched = null;
  /** @type {Error | null} how it was lost */
  #loss = null;
  /** @type {(error: Error) => void} stops the run in progress */
  #stop = () => {};

  /**
   * @param {Ort} ort
   * @param {ReadFile} read
   * @param {Device} device
   * @param {DType} dtype
   */
  constructor(ort, read, device, dtype) {
    if (!(dtype in SUFFIXES)) {
      throw new RangeError(`dtype must be one of ${Object.keys(SUFFIXES).join(", ")}, got ${JSON.stringify(dtype)}`);
    }
    if (!(device in PROVIDERS)) {
      throw new RangeError(`device must be one of ${Object.keys(PROVIDERS).join(", ")}, got ${JSON.stringify(device)}`);
    }
    this.#ort = ort;
    this.#read = read;
    this.#suffix = SUFFIXES[dtype];
    this.device = device;
    /** @type {unknown} why WebGPU was left, if it was */
    this.deviceError = null;
  }

  /**
   * Loads graphs that are not loaded yet.
   *
   * @param {readonly string[]} names
   * @returns {Promise<void>}
   */
  async load(names) {
    await this.#queue.run(() => this.#withFallback(async () => {
      for (const name of names) await this.#session(name);
    }));
  }

  /**
   * The outputs of a graph.
   *
   * @param {string} name
   * @param {Record<string, Tensor>} inputs
   * @returns {Promise<Outputs>}
   */
  async run(name, inputs) {
    return this.#queue.run(() => this.#withFallback(async () => {
      const session = await this.#session(name);
      const feeds = Object.entries(inputs).map(([key, { type, data, dims }]) => {
        return [key, new this.#ort.Tensor(type, data, dims)];
      });
      const outputs = await this.#unlessLost(() => session.run(Object.fromEntries(feeds)));
      return Object.fromEntries(Object.entries(outputs).map(([key, tensor]) => [key, tensor.data]));
    }));
  }

  /**
   * Frees the memory of all graphs; they are loaded again when they are needed.
   *
   * @returns {Promise<void>}
   */
  async release() {
    await this.#queue.run(async () => {
      const sessions = [...this.#sessions.values()];
      this.#sessions.clear();
      for (const session of sessions) await session.release();
    });
  }

  /**
   * What a task returns, repeated in WebAssembly if WebGPU fails.
   *
   * @template T
   * @param {() => Promise<T>} task
   * @returns {Promise<T>}
   */
  async #withFallback(task) {
    if (this.device === "wasm") return task();
    try {
      return await task();
    } catch (error) {
      this.deviceError = error;
      this.device = "wasm";
      this.#sessions.clear(); // those of a lost device cannot be released
      return task();
    }
  }

  /**
   * @param {string} name
   * @returns {Promise<OrtSession>}
   */
  async #session(name) {
    const loaded = this.#sessions.get(name);
    if (loaded) return loaded;
    const path = `onnx/${name}${this.#suffix}.onnx`;
    const bytes = await this.#read(path);
    const options = { executionProviders: [PROVIDERS[this.device]], logSeverityLevel: 3 };
    try {
      const session = await this.#ort.InferenceSession.create(bytes, options);
      this.#sessions.set(name, session);
      if (this.device === "webgpu") await this.#watchGpu();
      return session;
    } catch (error) {
      throw new Error(`${path} (${bytes.length} bytes) cannot be used on ${this.device}, is it complete? ${error}`);
    }
  }

  /** Notes when the browser takes the GPU away. */
  async #watchGpu() {
    const gpu = await this.#ort.env.webgpu?.device;
    if (!gpu?.lost || gpu === this.#watched) return;
    this.#watched = gpu;
    gpu.lost.then((/** @type {any} */ info) => {
      this.#loss = new Error(`the GPU was lost: ${info?.message || info?.reason}`);
      this.#stop(this.#loss);
    });
  }

  /**
   * What a task returns, but an Error at once if the GPU is lost, after which ONNX Runtime may never answer.
   *
   * @template T
   * @param {() => Promise<T>} task
   * @returns {Promise<T>}
   */
  #unlessLost(task) {
    if (this.device === "wasm") return task();
    if (this.#loss) throw this.#loss;
    return new Promise((resolve, reject) => {
      this.#stop = reject;
      task().then(resolve, reject);
    });
  }
}

/**
 * The device that is asked for, or WebAssembly where there is no WebGPU.
 *
 * @param {Device} device
 * @returns {Promise<Device>}
 */
export async function availableDevice(device) {
  if (device !== "webgpu") return device;
  const gpu = /** @type {any} */ (globalThis.navigator)?.gpu;
  const adapter = await gpu?.requestAdapter().catch(() => null);
  return adapter ? "webgpu" : "wasm";
}
