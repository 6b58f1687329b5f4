/**
 * The frames of a video file, decoded by the browser when they are needed.
 *
 * Where an MP4 or MOV file has its times in one table, as nearly all have, frames are exact: their number, and which
 * one is shown, also where the time between them changes. Of other files (WebM, fragmented MP4) the frame rate is
 * measured while the video plays for a moment, and taken as constant: there a frame may be counted twice, or be left
 * out. Colours are those of the browser, which may be a level or two from those of FFmpeg.
 */
import { Queue } from "../queue.js";
import { readTimetable } from "./mp4.js";

/** @typedef {import("./mp4.js").Timetable} Timetable */

const COMMON_RATES = [24000 / 1001, 24, 25, 30000 / 1001, 30, 48, 50, 60000 / 1001, 60, 120];
const NUM_MEASURED_FRAMES = 16;
const MEASURING_MILLISECONDS = 3000;
const DEFAULT_RATE = 30; // where nothing can be measured
const BEYOND_THE_END = 1e7; // seconds
const CHECKING_MILLISECONDS = 500;
const MOST_CHECKS = 20; // a slow machine shows a frame late, but 10 seconds are enough for any

export class Film {
  #address;
  #video;
  #queue = new Queue();
  #timetable;
  #isExact;

  /**
   * @param {string} address
   * @param {HTMLVideoElement} video
   * @param {Timetable} timetable
   * @param {boolean} isExact whether the times are those of the file, and not measured
   */
  constructor(address, video, timetable, isExact) {
    this.#isExact = isExact;
    this.#address = address;
    this.#video = video;
    this.#timetable = timetable;
    this.width = video.videoWidth;
    this.height = video.videoHeight;
    this.hasSound = timetable.hasSound;
    this.numFrames = timetable.times.length;
    this.frameRate = this.numFrames / timetable.duration;
  }

  /**
   * The frames of a file; throws an Error with a sentence if the browser cannot play it.
   *
   * @param {File} file
   * @returns {Promise<Film>}
   */
  static async open(file) {
    const address = URL.createObjectURL(file);
    try {
      const video = await loadVideo(address, file.name);
      const timetable = await readTimetable(file);
      return new Film(address, video, timetable ?? (await measureTimes(video)), timetable !== null);
    } catch (error) {
      URL.revokeObjectURL(address);
      throw error;
    }
  }

  /**
   * A frame; the caller closes it.
   *
   * @param {number} frameIdx
   * @returns {Promise<ImageBitmap>}
   */
  frameAt(frameIdx) {
    return this.#queue.run(async () => {
      await this.seek(this.#video, frameIdx);
      return createImageBitmap(this.#video);
    });
  }

  /**
   * Goes to a frame in a player of this file; throws an Error if the browser does not show it.
   *
   * @param {HTMLVideoElement} video
   * @param {number} frameIdx
   * @returns {Promise<void>}
   */
  async seek(video, frameIdx) {
    const { times, duration } = this.#timetable;
    const middle = (times[frameIdx] + (times[frameIdx + 1] ?? duration)) / 2; // where rounding does no harm
    const isWanted = (/** @type {number} */ mediaTime) => this.frameIdxAt(mediaTime) === frameIdx;
    if (!(await seek(video, middle, isWanted, this.#isExact))) {
      video.currentTime = 0; // so that it is looked for again, if it is asked for again
      throw new Error(`The browser does not show frame ${frameIdx + 1} of the video: the file is damaged, or cut off.`);
    }
  }

  /**
   * The frame that begins nearest to a time, as the browser gives it of a frame that it shows.
   *
   * @param {number} seconds
   */
  frameIdxAt(seconds) {
    const { times } = this.#timetable;
    const before = Math.max(0, times.findLastIndex((time) => time <= seconds));
    return times[before + 1] - seconds < seconds - times[before] ? before + 1 : before;
  }

  /** Another player of the same file. */
  player() {
    return loadVideo(this.#address, "the video");
  }

  close() {
    this.#video.removeAttribute("src");
    this.#video.load();
    URL.revokeObjectURL(this.#address);
  }
}

/**
 * A video element that has its first frame.
 *
 * @param {string} address
 * @param {string} name for the user
 * @returns {Promise<HTMLVideoElement>}
 */
async function loadVideo(address, name) {
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  video.preload = "auto";
  video.src = address;
  await happens(video, "loadeddata").catch(({ message }) => {
    const advice = "convert it to MP4 (H.264)";
    throw new Error(`${name} is no picture or video that this browser can read (${message}): ${advice}.`);
  });
  if (video.videoWidth === 0) throw new Error(`${name} has sound, but no pictures that this browser can show.`);
  return video;
}

/**
 * Goes to a time of a video, and waits until its frame can be drawn. In a tab that is hidden nothing is shown, and there
 * it does not wait for that.
 *
 * @param {HTMLVideoElement} video
 * @param {number} seconds
 * @param {(mediaTime: number) => boolean} [isWanted] whether a frame is the right one
 * @param {boolean} [isExact] whether no other frame will do
 * @returns {Promise<boolean>} whether the frame is there
 */
async function seek(video, seconds, isWanted = () => true, isExact = false) {
  if (Math.abs(video.currentTime - seconds) < 1e-6 && video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) return true;
  let [isReached, isShown] = [false, false];
  const reached = happens(video, "seeked").then(() => (isReached = true));
  // "seeked" may come while the frame before is still what is drawn
  const shown = new Promise((resolve) => {
    const check = (/** @type {number} */ _, /** @type {VideoFrameCallbackMetadata} */ { mediaTime }) => {
      if (isWanted(mediaTime)) resolve((isShown = true));
      else video.requestVideoFrameCallback?.(check);
    };
    video.requestVideoFrameCallback?.(check);
  });
  const isThere = () => isReached && (isShown || !isExact || document.hidden);
  video.currentTime = seconds;
  for (let i = 0; i < MOST_CHECKS && !isThere(); i++) {
    const pause = new Promise((resolve) => setTimeout(resolve, CHECKING_MILLISECONDS));
    await Promise.race([Promise.all([reached, shown]), pause]);
  }
  return isThere();
}

/**
 * Waits for an event of a video; throws an Error if it cannot be played.
 *
 * @param {HTMLVideoElement} video
 * @param {string} name
 * @returns {Promise<void>}
 */
function happens(video, name) {
  return new Promise((resolve, reject) => {
    const done = new AbortController();
    const once = { once: true, signal: done.signal };
    const fail = () => {
      done.abort();
      reject(new Error(video.error?.message || "it is damaged, or of an unknown format"));
    };
    video.addEventListener("error", fail, once);
    video.addEventListener(name, () => {
      done.abort();
      resolve();
    }, once);
  });
}

/**
 * The timetable of a video whose file has none: equal distances, measured while it plays.
 *
 * @param {HTMLVideoElement} video
 * @returns {Promise<Timetable>}
 */
async function measureTimes(video) {
  if (!Number.isFinite(video.duration)) await seek(video, BEYOND_THE_END); // then the browser knows where the end is
  await seek(video, 0);
  const { duration } = video;
  const rate = await measureRate(video);
  const numFrames = Math.max(1, Math.round(duration * rate));
  const times = Float64Array.from({ length: numFrames }, (_, i) => i / rate);
  const { mozHasAudio, webkitAudioDecodedByteCount } = /** @type {any} */ (video);
  return { times, duration: numFrames / rate, hasSound: Boolean(mozHasAudio || webkitAudioDecodedByteCount) };
}

/**
 * Frames a second, from the times of frames that are shown.
 *
 * @param {HTMLVideoElement} video
 * @returns {Promise<number>}
 */
async function measureRate(video) {
  /** @type {number[]} */
  const times = [];
  await new Promise((resolve) => {
    const timer = setTimeout(resolve, MEASURING_MILLISECONDS);
    const finish = () => {
      clearTimeout(timer);
      resolve(null);
    };
    const note = (/** @type {number} */ _, /** @type {VideoFrameCallbackMetadata} */ { mediaTime }) => {
      times.push(mediaTime);
      if (times.length > NUM_MEASURED_FRAMES) finish();
      else video.requestVideoFrameCallback(note);
    };
    video.requestVideoFrameCallback?.(note);
    video.addEventListener("ended", finish, { once: true });
    video.play().catch(finish);
  });
  video.pause();
  // frames may be left out while it plays, so that the smaller distances count
  const distances = times.slice(1).map((time, i) => time - times[i]).filter((distance) => distance > 1e-4);
  if (distances.length === 0) return DEFAULT_RATE;
  const rate = 1 / distances.sort((a, b) => a - b)[Math.floor(distances.length / 4)];
  return COMMON_RATES.find((common) => Math.abs(common / rate - 1) < 0.02) ?? rate;
}
