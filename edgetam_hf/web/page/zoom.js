/** How a picture lies on the canvas: scale and corner, in pixels of the page. */

/** @typedef {import("../types.js").Size} Size */

/**
 * @typedef {object} Placement
 * @property {number} scale pixels of the page to a pixel of the picture
 * @property {number} left where the picture begins on the canvas
 * @property {number} top
 */

const MARGIN = 16; // around a picture that is shown as a whole
const LARGEST_SCALE = 40;
const LEAST_SEEN = 60; // pixels of a picture that stay on the canvas, however far it is moved

/**
 * The whole picture in the middle of the canvas; small ones at most eight times as large.
 *
 * @param {Size} picture
 * @param {Size} canvas
 * @returns {Placement}
 */
export function fit(picture, canvas) {
  const [width, height] = [Math.max(1, canvas.width - 2 * MARGIN), Math.max(1, canvas.height - 2 * MARGIN)];
  const scale = Math.min(width / picture.width, height / picture.height, 8);
  return { scale, left: (canvas.width - scale * picture.width) / 2, top: (canvas.height - scale * picture.height) / 2 };
}

/**
 * Nearer or farther by a factor, around a place on the canvas that stays where it is.
 *
 * @param {Placement} placement
 * @param {number} factor
 * @param {number[]} place [x, y] on the canvas
 * @param {Size} picture
 * @param {Size} canvas
 * @returns {Placement}
 */
export function zoomAt({ scale, left, top }, factor, [x, y], picture, canvas) {
  const smallest = Math.min(fit(picture, canvas).scale, 1) / 2;
  const zoomed = Math.min(LARGEST_SCALE, Math.max(smallest, scale * factor));
  const ratio = zoomed / scale;
  return move({ scale: zoomed, left: x - (x - left) * ratio, top: y - (y - top) * ratio }, [0, 0], picture, canvas);
}

/**
 * Moved on the canvas, but never out of it.
 *
 * @param {Placement} placement
 * @param {number[]} by [x, y] in pixels of the page
 * @param {Size} picture
 * @param {Size} canvas
 * @returns {Placement}
 */
export function move({ scale, left, top }, [x, y], picture, canvas) {
  return {
    scale,
    left: clamp(left + x, LEAST_SEEN - scale * picture.width, canvas.width - LEAST_SEEN),
    top: clamp(top + y, LEAST_SEEN - scale * picture.height, canvas.height - LEAST_SEEN),
  };
}

/**
 * Where a place on the canvas is in the picture, [x, y] in its pixels, with fractions.
 *
 * @param {Placement} placement
 * @param {number[]} place [x, y] on the canvas
 */
export function toPicture({ scale, left, top }, [x, y]) {
  return [(x - left) / scale, (y - top) / scale];
}

/**
 * @param {number} value
 * @param {number} least
 * @param {number} most
 */
export function clamp(value, least, most) {
  return Math.max(Math.min(least, most), Math.min(Math.max(least, most), value));
}
