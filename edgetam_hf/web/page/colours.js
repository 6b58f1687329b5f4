/** Colours of objects: told apart from each other, on a photograph, in light and in dark. */

/** @type {readonly (readonly [number, number, number])[]} */
const COLOURS = [
  [38, 139, 255],
  [255, 112, 32],
  [24, 184, 110],
  [232, 62, 140],
  [255, 196, 0],
  [143, 92, 255],
  [0, 190, 212],
  [240, 62, 62],
  [150, 200, 30],
  [255, 140, 180],
  [120, 150, 190],
  [190, 130, 70],
];

/**
 * The first colour that the fewest objects have.
 *
 * @param {readonly (readonly number[])[]} taken
 * @returns {number[]}
 */
export function freeColour(taken) {
  const uses = COLOURS.map((colour) => taken.filter((one) => one.join() === colour.join()).length);
  return [...COLOURS[uses.indexOf(Math.min(...uses))]];
}

/**
 * A colour as CSS has it.
 *
 * @param {readonly number[]} colour [red, green, blue], 0..255
 * @param {number} [opacity]
 */
export function cssOf([red, green, blue], opacity = 1) {
  return `rgb(${red} ${green} ${blue} / ${opacity})`;
}

/**
 * A colour as `<input type="color">` has it.
 *
 * @param {readonly number[]} colour
 */
export function hexOf(colour) {
  return `#${colour.map((level) => level.toString(16).padStart(2, "0")).join("")}`;
}

/**
 * The colour of `<input type="color">`.
 *
 * @param {string} hex "#2a8bff"
 */
export function colourOfHex(hex) {
  return [1, 3, 5].map((start) => Number.parseInt(hex.slice(start, start + 2), 16));
}
