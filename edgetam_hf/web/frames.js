/**
 * Pictures and frames of any kind as pixels, and pixels as the model input.
 *
 * (H, W) is the model input.
 */
import { describe } from "./checks.js";
import { resize } from "./resize.js";

/** @typedef {import("./types.js").Frame} Frame */
/** @typedef {import("./resize.js").Pixels<Uint8ClampedArray>} Picture */
/** @typedef {import("./folder.js").Preparation} Preparation */

/**
 * The pixels of a picture or frame, three or four channels each.
 *
 * @param {Frame} frame something that can be drawn on a canvas, or `{ data, width, height }` with bytes of RGB or RGBA;
 *     an alpha channel is ignored
 * @returns {Picture}
 */
export function readFrame(frame) {
  if (typeof frame !== "object" || frame === null) throw new TypeError(unknownFrame(frame));
  return "data" in frame ? readPixels(frame) : readDrawable(frame);
}

/**
 * @param {import("./types.js").RawFrame} frame
 * @returns {Picture}
 */
function readPixels({ data, width, height }) {
  if (!(data instanceof Uint8Array || data instanceof Uint8ClampedArray)) {
    throw new TypeError(`the data of a frame must be a Uint8Array or a Uint8ClampedArray, got ${describe(data)}`);
  }
  const isSize = Number.isInteger(width) && Number.isInteger(height) && width > 0 && height > 0;
  const channels = data.length / (width * height);
  if (!isSize || (channels !== 3 && channels !== 4)) {
    throw new RangeError(
      `a frame of ${width} x ${height} pixels must have ${width * height * 3} bytes (RGB) or ` +
        `${width * height * 4} (RGBA), got ${data.length}`,
    );
  }
  return { data: new Uint8ClampedArray(data.buffer, data.byteOffset, data.length), width, height, channels };
}

/**
 * @param {import("./types.js").Drawable} frame
 * @returns {Picture}
 */
function readDrawable(frame) {
  const { width, height } = drawnSize(frame);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("this browser has no 2D canvas: give frames as { data, width, height }");
  context.drawImage(frame, 0, 0, width, height);
  return { data: context.getImageData(0, 0, width, height).data, width, height, channels: 4 };
}

/**
 * The size of the picture itself, not of the element that shows it.
 *
 * @param {any} frame
 * @returns {import("./types.js").Size}
 */
function drawnSize(frame) {
  const width = frame.videoWidth ?? frame.naturalWidth ?? frame.displayWidth ?? frame.width;
  const height = frame.videoHeight ?? frame.naturalHeight ?? frame.displayHeight ?? frame.height;
  if (typeof width !== "number" || typeof height !== "number") throw new TypeError(unknownFrame(frame));
  if (width === 0 || height === 0) {
    throw new RangeError(`${describe(frame)} has no pixels yet: wait until it has loaded (a video: "loadeddata")`);
  }
  return { width, height };
}

/** @param {unknown} frame */
function unknownFrame(frame) {
  return (
    "a frame must be a video or image element, a canvas, an ImageBitmap, ImageData, or { data, width, height } with " +
    `bytes of RGB or RGBA, got ${describe(frame)}; give a MediaStream to a video element first (video.srcObject)`
  );
}

/**
 * The model input (1, 3, H, W) of a picture.
 *
 * @param {Picture} picture
 * @param {Preparation} preparation
 * @returns {Float32Array}
 */
export function pixelValues(picture, { size, mean, std, rescaleFactor }) {
  const { data, channels } = resize(picture, size.width, size.height);
  const numPixels = size.width * size.height;
  const values = new Float32Array(3 * numPixels);
  for (let channel = 0; channel < 3; channel++) {
    const shift = mean[channel] / rescaleFactor;
    const scale = std[channel] / rescaleFactor;
    const levels = Float32Array.from({ length: 256 }, (_, level) => (level - shift) / scale);
    for (let i = 0; i < numPixels; i++) values[channel * numPixels + i] = levels[data[i * channels + channel]];
  }
  return values;
}

/**
 * Image embeddings of a picture or frame, and its size.
 *
 * @param {import("./stages.js").Stages} stages
 * @param {Frame} frame
 */
export async function frameEmbeddings(stages, frame) {
  const picture = readFrame(frame);
  const embeddings = await stages.encode(pixelValues(picture, stages.description.preparation));
  return { embeddings, size: { width: picture.width, height: picture.height } };
}
