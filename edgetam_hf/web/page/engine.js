/**
 * What the page asks of an engine: a server with the Python session, or `edgetam.js` in this browser.
 *
 * Everything else is shared: the page keeps what was said and what was found (`project.js`), and an engine only computes.
 * Points and boxes are in pixels of the picture or frame, (x, y). An engine that fails throws an Error with a sentence
 * for the user, and is as it was before the call, except after an `UncertainError`.
 */

/** An error after which nobody knows whether the engine has done what it was asked for. */
export class UncertainError extends Error {}

/**
 * @typedef {object} Settings `settings.json` beside the page
 * @property {"server" | "browser"} engine
 * @property {string} [model] what the page calls the model; of the browser engine the folder that `edgetam export` wrote
 * @property {string} [ort] of the browser engine: the folder of ONNX Runtime Web
 * @property {string} [device] of the browser engine: "webgpu" or "wasm"
 * @property {string} [dtype] of the browser engine: "fp32", "fp16" or "q8"
 * @property {string | null} [media] name of the file that is open from the start, if there is one
 */

/**
 * @typedef {object} Media what is open
 * @property {"picture" | "video" | "live"} kind
 * @property {string} name
 * @property {number} width
 * @property {number} height
 * @property {number} numFrames 1 of a picture; of a camera, the frames so far
 * @property {number} frameRate frames a second, of a video
 * @property {boolean} hasSound
 */

/**
 * @typedef {object} Prompt what is said of one object on one frame in one go; at least one of the three is given
 * @property {number[][]} points [point][x, y]
 * @property {number[]} labels [point]: 1 on the object, 0 off the object
 * @property {number[] | null} box [x_min, y_min, x_max, y_max]
 * @property {Uint32Array | null} mask runs at the size of the picture, see `runs.js`
 */

/**
 * @typedef {object} Found one object on one frame
 * @property {number} objectId
 * @property {Uint32Array} runs its mask, see `runs.js`
 * @property {number} iouScore predicted IoU
 * @property {boolean} isPresent whether the object seems to be there
 */

/**
 * @typedef {object} FoundFrame
 * @property {number} frameIdx
 * @property {Found[]} objects
 */

/** @typedef {(done: number, total: number) => void} OnProgress */

/**
 * @typedef {object} Engine
 * @property {string} description for the user: model and device
 * @property {(file: File | null, onProgress?: OnProgress) => Promise<Media>} open a picture or video, in place of what
 *     was open; without a file the one that the server was started with
 * @property {(frameIdx: number) => Promise<ImageBitmap>} frame a frame to be shown; the caller closes it
 * @property {(prompt: Prompt, isMultimask: boolean) => Promise<Found[]>} segment of a picture: the three candidates of
 *     an object, best first, or the best mask alone; nothing is kept (`objectId` is 0)
 * @property {(options: { pointsPerSide: number, frameIdx: number }, onProgress: OnProgress, signal: AbortSignal) =>
 *     Promise<Found[]>} everything of a picture, which is frame 0, or of a frame of a video: masks of all that is in it,
 *     best first (`objectId` counts from 1)
 * @property {(frameIdx: number, objectId: number, prompt: Prompt) => Promise<FoundFrame>} addPrompt of a video: says
 *     more of an object on a frame, after what was said there before, and answers it. Unknown ids begin objects. A mask
 *     stands alone, and replaces clicks and boxes.
 * @property {(frameIdx: number, masks: ReadonlyMap<number, Uint32Array>) => Promise<FoundFrame>} addMasks of a video:
 *     the same of many objects at once, by masks
 * @property {(frameIdx: number, objectId: number) => Promise<FoundFrame>} clearPrompts of a video: takes back all that
 *     was said of an object on a frame, and what was found there; the answer has the objects that are found on it now
 * @property {(objectId: number) => Promise<void>} removeObject of a video
 * @property {(range: { start: number, count: number | null, isReverse: boolean }, onFrame: (found: FoundFrame) => void,
 *     signal: AbortSignal) => Promise<void>} propagate follows all objects from a frame on, over `count` more frames or
 *     to the end. When the signal is aborted the frame at work is finished, and the promise is fulfilled.
 * @property {() => Promise<void>} reset forgets the objects of a video
 * @property {(width: number, height: number) => Promise<Media>} startLive a camera, in place of what was open
 * @property {(frame: ImageBitmap) => Promise<FoundFrame>} receive the next frame of the camera, and what is found on it;
 *     the engine closes the frame. `addPrompt` on the last frame counts from the next one on.
 * @property {(results: Results, onProgress: OnProgress, signal: AbortSignal) => Promise<Blob>} overlay a film of the
 *     masks over the frames, with the sound of the video
 * @property {() => Promise<void>} close
 */

/**
 * @typedef {object} Results for a film
 * @property {{ objectId: number, colour: number[] }[]} objects colour: [red, green, blue], 0..255
 * @property {number[]} frames the frames that have results, ascending
 * @property {(frameIdx: number) => Found[]} on
 */

/**
 * The engine that the settings name.
 *
 * @param {Settings} settings
 * @returns {Promise<Engine>}
 */
export async function startEngine(settings) {
  if (settings.engine === "server") return (await import("./server_engine.js")).ServerEngine.start(settings);
  return (await import("./browser_engine.js")).BrowserEngine.start(settings);
}
