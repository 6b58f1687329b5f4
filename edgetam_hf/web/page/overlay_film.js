/**
 * A film of masks over the frames of a video, recorded by the browser while the video plays.
 *
 * It takes as long as the video does, and where the browser is too slow it leaves frames out. The page has to stay in
 * the foreground. MP4 where the browser can write it, else WebM.
 */
import { stretches } from "./runs.js";

/** @typedef {import("./engine.js").Results} Results */
/** @typedef {import("./film.js").Film} Film */

const TYPES = ["video/mp4;codecs=avc1.640028,mp4a.40.2", "video/mp4", "video/webm;codecs=vp9,opus", "video/webm"];
const BITS_PER_PIXEL = 0.2;
const OPACITY = 128; // of 255
const MILLISECONDS_AT_THE_ENDS = 300; // in which the first and the last frame get into the film

/**
 * The film, from the first frame with results to the last one.
 *
 * @param {Film} film
 * @param {Results} results
 * @param {import("./engine.js").OnProgress} onProgress in frames
 * @param {AbortSignal} signal
 * @returns {Promise<Blob>}
 */
export async function recordOverlay(film, results, onProgress, signal) {
  signal.throwIfAborted();
  const [first, last] = [results.frames[0], results.frames[results.frames.length - 1]];
  const player = await film.player();
  player.muted = !film.hasSound;
  const canvas = new OverlayCanvas(film, results);
  await film.seek(player, first);
  canvas.draw(player, first);
  const { recorder, parts } = startRecorder(canvas.stream(film.frameRate), film.hasSound ? soundOf(player) : [], film);
  try {
    await hold(() => canvas.draw(player, first));
    await player.play();
    for (let frameIdx = first; frameIdx < last && !player.ended; ) {
      frameIdx = Math.min(film.frameIdxAt(await nextFrame(player)), last);
      signal.throwIfAborted();
      canvas.draw(player, frameIdx);
      onProgress(frameIdx - first + 1, last - first + 1);
    }
    player.pause();
    await hold(() => canvas.draw(player, last));
  } finally {
    player.pause();
    await stop(recorder);
  }
  return new Blob(parts, { type: recorder.mimeType.split(";")[0] });
}

/** Frames with masks over them. */
class OverlayCanvas {
  #canvas = document.createElement("canvas");
  #masks;
  #results;

  /**
   * @param {Film} film
   * @param {Results} results
   */
  constructor({ width, height }, results) {
    Object.assign(this.#canvas, { width, height });
    this.#masks = new OffscreenCanvas(width, height);
    this.#results = results;
  }

  /** @param {number} frameRate */
  stream(frameRate) {
    return this.#canvas.captureStream(frameRate);
  }

  /**
   * @param {HTMLVideoElement} video
   * @param {number} frameIdx
   */
  draw(video, frameIdx) {
    const { width, height } = this.#canvas;
    const pixels = new ImageData(width, height);
    for (const { objectId, runs } of this.#results.on(frameIdx)) {
      const colour = this.#results.objects.find((object) => object.objectId === objectId)?.colour;
      if (!colour) continue;
      for (const [start, end] of stretches(runs)) {
        for (let i = start; i < end; i++) {
          pixels.data.set([...colour, OPACITY], 4 * ((i % height) * width + Math.floor(i / height)));
        }
      }
    }
    this.#masks.getContext("2d")?.putImageData(pixels, 0, 0);
    const context = this.#canvas.getContext("2d");
    context?.drawImage(video, 0, 0);
    context?.drawImage(this.#masks, 0, 0);
  }
}

/**
 * @param {MediaStream} pictures
 * @param {MediaStreamTrack[]} sound
 * @param {Film} film
 */
function startRecorder(pictures, sound, { width, height, frameRate }) {
  const mimeType = TYPES.find((type) => MediaRecorder.isTypeSupported(type));
  const stream = new MediaStream([...pictures.getVideoTracks(), ...sound]);
  const videoBitsPerSecond = Math.max(1e6, width * height * frameRate * BITS_PER_PIXEL);
  const recorder = new MediaRecorder(stream, { mimeType, videoBitsPerSecond });
  /** @type {Blob[]} */
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  recorder.start();
  return { recorder, parts };
}

/**
 * The sound of a video, which is then not heard.
 *
 * @param {HTMLVideoElement} video
 */
function soundOf(video) {
  const context = new AudioContext();
  const destination = context.createMediaStreamDestination();
  context.createMediaElementSource(video).connect(destination);
  video.addEventListener("pause", () => context.close(), { once: true });
  return destination.stream.getAudioTracks();
}

/**
 * The time of the next frame that is shown, or of the end.
 *
 * @param {HTMLVideoElement} video
 * @returns {Promise<number>}
 */
function nextFrame(video) {
  return new Promise((resolve) => {
    video.requestVideoFrameCallback((_, { mediaTime }) => resolve(mediaTime));
    video.addEventListener("ended", () => resolve(Infinity), { once: true });
  });
}

/**
 * Shows a frame for a while: a recorder needs time to begin and to end.
 *
 * @param {() => void} draw
 */
async function hold(draw) {
  for (let i = 0; i < 3; i++) {
    await new Promise((resolve) => setTimeout(resolve, MILLISECONDS_AT_THE_ENDS / 3));
    draw(); // only what is drawn is recorded
  }
}

/** @param {MediaRecorder} recorder */
function stop(recorder) {
  return new Promise((resolve) => {
    recorder.onstop = resolve;
    recorder.stop();
  });
}
