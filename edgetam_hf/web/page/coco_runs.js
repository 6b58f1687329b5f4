/**
 * Runs of masks as the text that COCO's files have: "compressed" run lengths.
 *
 * Each number has 5 bits a character, the lowest first, and 48 is added. A sixth bit says that more characters follow;
 * the fifth bit of the last one is the sign. From the fourth run on, the number is the difference to the run two before.
 */

/** @typedef {import("../types.js").Size} Size */

const BITS = 5;
const MORE = 32;
const SIGN = 16;
const FIRST_CHARACTER = 48;
const LONGEST_NUMBER = 6; // characters: 30 bits, more than a picture of the page has pixels
const FIRST_DIFFERENCE = 3; // index of the first run that is written as a difference
const CHUNK = 8192; // characters that are joined at once

/**
 * Text of runs.
 *
 * @param {Uint32Array} runs
 * @returns {string}
 */
export function compressRuns(runs) {
  const codes = new Uint8Array(runs.length * (LONGEST_NUMBER + 1));
  let length = 0;
  for (let i = 0; i < runs.length; i++) {
    let number = runs[i] - (i < FIRST_DIFFERENCE ? 0 : runs[i - 2]);
    let isLast = false;
    while (!isLast) {
      const bits = number & (MORE - 1);
      number >>= BITS;
      isLast = number === (bits & SIGN ? -1 : 0);
      codes[length++] = FIRST_CHARACTER + bits + (isLast ? 0 : MORE);
    }
  }
  let text = "";
  for (let i = 0; i < length; i += CHUNK) text += String.fromCharCode(...codes.subarray(i, Math.min(i + CHUNK, length)));
  return text;
}

/**
 * Runs of a text.
 *
 * @param {string} text
 * @param {Size} size of the picture, which the runs have to fill
 * @param {string} name what an Error calls the mask
 * @returns {Uint32Array}
 */
export function decompressRuns(text, { width, height }, name) {
  const runs = new Uint32Array(text.length);
  let numRuns = 0;
  let position = 0;
  let sum = 0;
  while (position < text.length) {
    const [number, next] = readNumber(text, position);
    const run = number + (numRuns < FIRST_DIFFERENCE ? 0 : runs[numRuns - 2]);
    if (next <= position || run < 0 || run > width * height) throw damaged(name, width, height);
    runs[numRuns++] = run;
    sum += run;
    position = next;
  }
  if (sum !== width * height || numRuns === 0) throw damaged(name, width, height);
  return runs.slice(0, numRuns);
}

/**
 * A number and where it ends; the end is 0 if it is none.
 *
 * @param {string} text
 * @param {number} start
 */
function readNumber(text, start) {
  let number = 0;
  for (let i = 0; i < LONGEST_NUMBER && start + i < text.length; i++) {
    const code = text.charCodeAt(start + i) - FIRST_CHARACTER;
    if (code < 0 || code >= 2 * MORE) break;
    number |= (code & (MORE - 1)) << (BITS * i);
    if (!(code & MORE)) return [code & SIGN ? number | (-1 << (BITS * (i + 1))) : number, start + i + 1];
  }
  return [0, 0];
}

/**
 * @param {string} name
 * @param {number} width
 * @param {number} height
 */
function damaged(name, width, height) {
  return new Error(`${name} is damaged: its run lengths do not fill ${width} x ${height} pixels`);
}
