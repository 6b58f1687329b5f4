/** Names that every system takes, made of what users call things. */

const LONGEST = 80; // characters
const NOT_IN_NAMES = /[\p{C}<>:"/\\|?*]/gu; // control characters, halves of pairs, and what a system forbids
const RESERVED = /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i; // devices on Windows

/**
 * A name for a file or folder, without a path.
 *
 * @param {string} text
 * @param {string} otherwise what it is if nothing is left of the text
 */
export function fileNameOf(text, otherwise) {
  const plain = [...text.normalize("NFC").replace(NOT_IN_NAMES, "_")].slice(0, LONGEST).join("");
  const name = plain.trim().replace(/^\.+/, "").replace(/[. ]+$/, "").trim();
  if (name.replaceAll("_", "") === "") return otherwise;
  return RESERVED.test(name) ? `_${name}` : name;
}

/**
 * The name of a file without its folder and its ending.
 *
 * @param {string} path
 */
export function stemOf(path) {
  return fileNameOf(baseNameOf(path).replace(/(?<=.)\.\w{1,5}$/, ""), "untitled");
}

/**
 * The name of a file without its folder.
 *
 * @param {string} path
 */
export function baseNameOf(path) {
  return path.split(/[/\\]/).at(-1) || "untitled";
}

/**
 * A name for the files of each object, by its id; no two are equal, not even where capitals do not count.
 *
 * @param {readonly { id: number, name: string }[]} objects
 * @returns {Map<number, string>}
 */
export function objectFileNames(objects) {
  const taken = new Set();
  const names = new Map();
  for (const { id, name } of objects) {
    const plain = fileNameOf(name, `object_${id}`);
    let free = plain;
    for (let number = id; taken.has(free.toLowerCase()); number++) free = `${plain}_${number}`;
    taken.add(free.toLowerCase());
    names.set(id, free);
  }
  return names;
}

/**
 * What a frame is called in file names, as in DAVIS: 00017.
 *
 * @param {number} frameIdx
 */
export function frameName(frameIdx) {
  return String(frameIdx).padStart(5, "0");
}
