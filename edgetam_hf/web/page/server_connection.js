/**
 * One session of the server: requests for files, and numbered calls over one WebSocket.
 *
 * What does not reach the server is tried again for a few seconds. Calls that were on their way when the connection
 * broke fail, since nobody knows whether the server has done them; later ones connect again.
 */
import { UncertainError } from "./engine.js";
import { decodeMessage, encodeMessage } from "./messages.js";

/** @typedef {import("./engine.js").OnProgress} OnProgress */
/** @typedef {{ header: any, payload: Uint8Array<ArrayBuffer> }} Answer header: `{ result }`, or what describes masks */

/**
 * @typedef {object} CallOptions
 * @property {Uint8Array} [payload] bytes that belong to the parameters
 * @property {OnProgress} [onProgress]
 * @property {(answer: Answer) => void} [onPart] takes what comes before the result
 * @property {AbortSignal} [signal] asks the server to end the call, which then answers
 */

/**
 * @typedef {object} Call
 * @property {(answer: Answer) => void} resolve
 * @property {(error: Error) => void} reject
 * @property {CallOptions} options
 */

const PAUSES = [200, 500, 1000, 2000]; // milliseconds before it is tried again
const UNREACHABLE = "The server cannot be reached. Check that `edgetam demo` is still running, then try again.";
const RESTARTED =
  "The server was started again, and does not know what was open. Save the project, and open it and its file anew.";
const INTERRUPTED = "The connection to the server was lost before it answered. Try again.";
const ROOT = new URL("../", import.meta.url);

export class ServerConnection {
  #session;
  /** @type {Promise<WebSocket> | null} */
  #socket = null;
  /** @type {Map<number, Call>} */
  #calls = new Map();
  #numCalls = 0;
  #isClosed = false;

  /** @param {string} session its id */
  constructor(session) {
    this.#session = session;
  }

  /**
   * A new session; throws an Error with a sentence if the server has none left.
   *
   * @returns {Promise<ServerConnection>}
   */
  static async start() {
    const { session } = await (await request("sessions", { method: "POST" })).json();
    return new ServerConnection(session);
  }

  /**
   * Address of something of the session.
   *
   * @param {string} path
   */
  address(path) {
    return `sessions/${this.#session}/${path}`;
  }

  /** Whether the server still knows the session. */
  async isKnown() {
    try {
      await this.#connect();
      return true;
    } catch (error) {
      if (/** @type {Error} */ (error).message === RESTARTED) return false;
      throw error;
    }
  }

  /**
   * What the server answers to a call.
   *
   * @param {string} method
   * @param {object} params
   * @param {CallOptions} [options]
   * @returns {Promise<Answer>}
   */
  async call(method, params, options = {}) {
    const socket = await this.#connect();
    const id = ++this.#numCalls;
    const message = { id, method, params };
    /** @type {Promise<Answer>} */
    const answer = new Promise((resolve, reject) => this.#calls.set(id, { resolve, reject, options }));
    socket.send(options.payload ? encodeMessage(message, options.payload) : JSON.stringify(message));
    const cancel = () => {
      const params = { call: id };
      if (socket.readyState === WebSocket.OPEN) {
        socket.send(JSON.stringify({ id: ++this.#numCalls, method: "cancel", params }));
      }
    };
    options.signal?.addEventListener("abort", cancel);
    if (options.signal?.aborted) cancel();
    return answer.finally(() => {
      this.#calls.delete(id);
      options.signal?.removeEventListener("abort", cancel);
    });
  }

  /** Tells the server that the session is over. */
  async close() {
    this.#isClosed = true;
    navigator.sendBeacon(new URL(this.address("close"), ROOT));
    const socket = await this.#socket?.catch(() => null);
    socket?.close();
  }

  /** @returns {Promise<WebSocket>} the socket, connected */
  #connect() {
    if (this.#isClosed) throw new Error("The session was closed: load the page again.");
    this.#socket ??= this.#open().catch((error) => {
      this.#socket = null;
      throw error;
    });
    return this.#socket;
  }

  async #open() {
    const address = new URL(this.address("socket"), ROOT);
    address.protocol = address.protocol.replace("http", "ws");
    for (const pause of [...PAUSES, null]) {
      const socket = await opened(address);
      if (socket) return this.#listen(socket);
      // a socket does not say why it was refused
      const isThere = await fetch(new URL("settings.json", ROOT), { cache: "no-store" }).then(
        ({ ok }) => ok,
        () => false,
      );
      if (isThere) throw new Error(RESTARTED);
      if (pause !== null) await wait(pause);
    }
    throw new Error(UNREACHABLE);
  }

  /** @param {WebSocket} socket */
  #listen(socket) {
    socket.onmessage = ({ data }) => {
      const isText = typeof data === "string";
      this.#receive(isText ? { header: JSON.parse(data), payload: new Uint8Array() } : decodeMessage(data));
    };
    socket.onclose = () => {
      this.#socket = null;
      for (const { reject } of this.#calls.values()) reject(new UncertainError(INTERRUPTED));
    };
    return socket;
  }

  /** @param {Answer} answer */
  #receive(answer) {
    const { id, error, progress, isResult } = answer.header;
    const call = this.#calls.get(id);
    if (!call) return;
    if (error !== undefined) call.reject(new Error(error));
    else if (progress) call.options.onProgress?.(progress[0], progress[1]);
    else if (isResult === false) call.options.onPart?.(answer);
    else call.resolve(answer);
  }
}

/**
 * A socket that is open; `null` if it was refused.
 *
 * @param {URL} address
 * @returns {Promise<WebSocket | null>}
 */
function opened(address) {
  return new Promise((resolve) => {
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => resolve(socket);
    socket.onclose = () => resolve(null);
  });
}

/**
 * What the server answers to a request; throws an Error with its sentence if it refuses.
 *
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<Response>}
 */
export async function request(path, options = {}) {
  for (const pause of [...PAUSES, null]) {
    const response = await fetch(new URL(path, ROOT), options).catch(() => null);
    options.signal?.throwIfAborted();
    if (response?.ok) return response;
    if (response) throw new Error(sentenceOf(await response.text(), response.status));
    if (pause !== null) await wait(pause);
  }
  throw new Error(UNREACHABLE);
}

/**
 * A picture or film that the server sends.
 *
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<Blob>}
 */
export async function download(path, options = {}) {
  const response = await request(path, options);
  return response.blob().catch((error) => {
    throw options.signal?.aborted ? error : new Error(INTERRUPTED);
  });
}

/**
 * Sends a file; fetch does not tell how far it is.
 *
 * @param {string} path
 * @param {Blob} body
 * @param {OnProgress} onProgress in bytes
 * @returns {Promise<any>} the answer
 */
export function upload(path, body, onProgress) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    sending.open("PUT", new URL(path, ROOT));
    sending.upload.onprogress = ({ loaded, total }) => onProgress(loaded, total);
    sending.onerror = () => reject(new Error(INTERRUPTED));
    sending.onload = () => {
      const { status, responseText } = sending;
      if (status >= 200 && status < 300) resolve(JSON.parse(responseText));
      else reject(new Error(sentenceOf(responseText, status)));
    };
    sending.send(body);
  });
}

/**
 * Why the server refuses.
 *
 * @param {string} text of its answer
 * @param {number} status
 */
function sentenceOf(text, status) {
  try {
    return JSON.parse(text).error ?? `The server answers with status ${status}.`;
  } catch {
    return `The server answers with status ${status}.`;
  }
}

/** @param {number} milliseconds */
function wait(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
