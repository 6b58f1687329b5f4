/**
 * The worker in which `edgetam.js` computes, so that the page stays smooth.
 *
 * The page sends `{ id, method, params }`, and gets `{ id, result }` or `{ id, error }`, before it `{ id, progress }`
 * and `{ id, found }` of frame after frame. `{ id, isCancelled: true }` ends a call after the frame or batch at work.
 * The worker asks for frames of a video by `{ request, mediaIdx, frameIdx }`, and gets `{ request, frame }` or
 * `{ request, error }`.
 */
import { BrowserModel } from "./browser_model.js";

/** @typedef {import("./browser_model.js").Calls} Calls */

const page = /** @type {any} */ (globalThis);
/** @type {Set<number>} */
const running = new Set();
/** @type {Map<number, { resolve: (frame: ImageBitmap) => void, reject: (error: Error) => void }>} */
const requests = new Map();
let numRequests = 0;
const model = new BrowserModel(requestFrame);

page.onmessage = (/** @type {MessageEvent} */ { data }) => {
  if ("request" in data) receiveFrame(data);
  else if (data.isCancelled) running.delete(data.id);
  else answer(data);
};

/** @param {{ id: number, method: keyof Calls, params: any }} call */
async function answer({ id, method, params }) {
  running.add(id);
  try {
    const result = await model[method](params, {
      onProgress: (done, total) => page.postMessage({ id, progress: [done, total] }),
      onFrame: (found) => page.postMessage({ id, found }, found.objects.map(({ runs }) => runs.buffer)),
      isAborted: async () => {
        await new Promise((resolve) => setTimeout(resolve)); // lets a message arrive
        return !running.has(id);
      },
    });
    page.postMessage({ id, result });
  } catch (error) {
    page.postMessage({ id, error: error instanceof Error ? error.message : String(error) });
  }
  running.delete(id);
}

/**
 * @param {number} mediaIdx
 * @param {number} frameIdx
 * @returns {Promise<ImageBitmap>}
 */
function requestFrame(mediaIdx, frameIdx) {
  return new Promise((resolve, reject) => {
    requests.set(++numRequests, { resolve, reject });
    page.postMessage({ request: numRequests, mediaIdx, frameIdx });
  });
}

/** @param {{ request: number, frame?: ImageBitmap, error?: string }} received */
function receiveFrame({ request, frame, error }) {
  const waiting = requests.get(request);
  requests.delete(request);
  if (frame) waiting?.resolve(frame);
  else waiting?.reject(new Error(error));
}
