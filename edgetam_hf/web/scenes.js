/** A picture or a video file to try a model on, for the page. */

/** @typedef {import("./edgetam.js").EdgeTam} EdgeTam */
/** @typedef {import("./edgetam.js").FoundMask} FoundMask */
/** @typedef {import("./types.js").Size} Size */

/**
 * @typedef {object} ObjectPrompt
 * @property {number[][]} points
 * @property {number[]} labels
 * @property {number[] | null} box
 */

/**
 * @typedef {object} Scene
 * @property {Size} size
 * @property {number} numFrames
 * @property {boolean} canTrack
 * @property {number} frameIdx of the frame that is shown
 * @property {Map<number, FoundMask>} masks that were found on it
 * @property {() => Promise<CanvasImageSource>} frame
 * @property {(id: number, prompt: ObjectPrompt) => Promise<void>} prompt all that an object has on the frame
 * @property {(id: number) => Promise<void>} remove
 * @property {(frameIdx: number) => Promise<void>} show goes to another frame
 * @property {() => AsyncGenerator<number, void>} track goes on frame by frame
 */

const FRAMES_PER_SECOND = 10;
const MAX_MEMORY_FRAMES = 16;

/**
 * Prompts of one object, as models and sessions take them.
 *
 * @param {ObjectPrompt} prompt
 */
function asLists({ points, labels, box }) {
  return { points: points.length ? [points] : null, labels: points.length ? [labels] : null, boxes: box && [box] };
}

/**
 * @param {EdgeTam} model
 * @param {Blob} file
 * @returns {Promise<Scene>}
 */
export async function openPicture(model, file) {
  const bitmap = await createImageBitmap(file);
  const picture = await model.encode(bitmap);
  const masks = new Map();
  return {
    size: picture.size,
    numFrames: 1,
    canTrack: false,
    frameIdx: 0,
    masks,
    frame: async () => bitmap,
    prompt: async (id, prompt) => {
      const [[mask]] = await picture.prompt({ ...asLists(prompt), multimask: false });
      masks.set(id, mask);
    },
    remove: async (id) => {
      masks.delete(id);
    },
    show: async () => {},
    track: async function* () {},
  };
}

/**
 * @param {EdgeTam} model
 * @param {Blob} file
 * @returns {Promise<Scene>}
 */
export async function openVideo(model, file) {
  const video = document.createElement("video");
  video.muted = true;
  video.preload = "auto";
  video.src = URL.createObjectURL(file);
  await happened(video, "loadeddata");
  const size = { width: video.videoWidth, height: video.videoHeight };
  const numFrames = Math.max(1, Math.floor(video.duration * FRAMES_PER_SECOND));
  const frameAt = async (/** @type {number} */ frameIdx) => {
    const seconds = (frameIdx + 0.5) / FRAMES_PER_SECOND;
    if (video.currentTime !== seconds) {
      const isThere = happened(video, "seeked");
      video.currentTime = seconds;
      await isThere;
    }
    return video;
  };
  const session = await model.startSession({ ...size, numFrames, frameAt, maxMemoryFrames: MAX_MEMORY_FRAMES });
  /** @param {import("./tracking.js").FrameOutput} output */
  const show = ({ frameIdx, masks }) => Object.assign(scene, { frameIdx, masks });
  /** @type {Scene} */
  const scene = {
    size,
    numFrames,
    canTrack: true,
    frameIdx: 0,
    masks: new Map(),
    frame: () => frameAt(scene.frameIdx),
    prompt: async (id, prompt) => {
      await session.addPrompts(scene.frameIdx, id, asLists(prompt));
      show(await session.segment(scene.frameIdx));
    },
    remove: async (id) => {
      if (session.objectIds.includes(id)) await session.removeObject(id);
      scene.masks.delete(id);
    },
    show: async (frameIdx) => {
      scene.frameIdx = frameIdx;
      scene.masks = new Map();
      if (session.objectIds.length > 0) show(await session.segment(frameIdx));
    },
    track: async function* () {
      for await (const output of session.propagate({ start: scene.frameIdx })) yield show(output).frameIdx;
    },
  };
  return scene;
}

/**
 * Waits for an event of a video; throws an Error if it cannot be played.
 *
 * @param {HTMLVideoElement} video
 * @param {string} name
 * @returns {Promise<void>}
 */
function happened(video, name) {
  return new Promise((resolve, reject) => {
    video.addEventListener(name, () => resolve(), { once: true });
    const fail = () => reject(new Error(`this browser cannot play the video: ${video.error?.message}`));
    video.addEventListener("error", fail, { once: true });
  });
}
