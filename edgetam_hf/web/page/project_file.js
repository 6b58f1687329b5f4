/**
 * The file in which the page saves a document: JSON, with a line for each prompt and each frame.
 *
 * Reading trusts nothing: a file that is damaged, of something else, or of a newer page gives an Error that says so, and
 * nothing of it is taken.
 */
import { BlobParts } from "./blob_parts.js";
import { compressRuns, decompressRuns } from "./coco_runs.js";

/** @typedef {import("./engine.js").Found} Found */
/** @typedef {import("./engine.js").FoundFrame} FoundFrame */
/** @typedef {import("./engine.js").Media} Media */
/** @typedef {import("./engine.js").Prompt} Prompt */
/** @typedef {import("./project.js").ObjectData} ObjectData */
/** @typedef {import("./project.js").ProjectData} ProjectData */
/** @typedef {import("./project.js").Said} Said */

const FORMAT = "edgetam project";
const VERSION = 1;
const LARGEST_SIDE = 65535;
const MOST_PIXELS = 2 ** 29;
const MOST_FRAMES = 2 ** 31;
const LARGEST_ID = 2 ** 31;
const NUM_CANDIDATES = 3; // of an object of a picture

/**
 * A project file of a document.
 *
 * @param {ProjectData} data
 * @returns {Blob}
 */
export function saveProject({ media, objects, prompts, frames }) {
  const { kind, name, width, height, numFrames, frameRate, hasSound } = media;
  const parts = new BlobParts();
  parts.add(`{"format":${JSON.stringify(FORMAT)},"version":${VERSION},\n"media":`);
  parts.add(JSON.stringify({ kind, name, width, height, numFrames, frameRate, hasSound }));
  parts.add(',\n"objects":');
  addLines(parts, objects, ({ id, name, colour, isVisible }) => ({ id, name, colour, isVisible }));
  parts.add(',\n"prompts":');
  addLines(parts, prompts, ({ objectId, frameIdx, prompts: said, choice }) => (
    { objectId, frameIdx, prompts: said.map(writtenPrompt), choice }
  ));
  parts.add(',\n"frames":');
  addLines(parts, frames, ({ frameIdx, objects: found }) => ({ frameIdx, objects: found.map(writtenFound) }));
  parts.add("}\n");
  return parts.blob("application/json");
}

/**
 * @template T
 * @param {BlobParts} parts
 * @param {readonly T[]} items
 * @param {(item: T) => object} written
 */
function addLines(parts, items, written) {
  parts.add("[");
  items.forEach((item, idx) => parts.add(`${idx ? "," : ""}\n${JSON.stringify(written(item))}`));
  parts.add("]");
}

/** @param {Prompt} prompt */
function writtenPrompt({ points, labels, box, mask }) {
  return { points, labels, box, mask: mask && compressRuns(mask) };
}

/** @param {Found} found */
function writtenFound({ objectId, runs, iouScore, isPresent }) {
  return { objectId, mask: compressRuns(runs), iouScore, isPresent };
}

/**
 * The document of a project file.
 *
 * @param {Blob} blob
 * @returns {Promise<ProjectData>}
 */
export async function readProject(blob) {
  const file = await parse(blob);
  if (!isRecord(file) || file.format !== FORMAT) throw new Error("This is no project that was saved by this page.");
  if (Number.isInteger(file.version) && file.version > VERSION) {
    throw new Error(`The project was saved by a newer page, in version ${file.version}; this one reads ${VERSION}.`);
  }
  check(file.version === VERSION, "version", `be ${VERSION}`, file.version);
  const fields = readRecord(file, "the file", ["format", "version", "media", "objects", "prompts", "frames"]);
  const media = readMedia(fields.media);
  const objects = readList(fields.objects, "objects", readObject);
  const ids = readIds(objects.map(({ id }) => id), "objects");
  const prompts = readList(fields.prompts, "prompts", (value, name) => readSaid(value, name, media, ids));
  checkAscending(prompts, "prompts", (one, other) => one.frameIdx - other.frameIdx || one.objectId - other.objectId);
  const frames = readList(fields.frames, "frames", (value, name) => readFrame(value, name, media, ids));
  checkAscending(frames, "frames", (one, other) => one.frameIdx - other.frameIdx);
  return { media, objects, prompts, frames };
}

/** @param {Blob} blob */
async function parse(blob) {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(await blob.arrayBuffer()));
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Error(`This is no project that was saved by this page, or it is damaged: ${why}.`);
  }
}

/**
 * @param {any} value
 * @returns {Media}
 */
function readMedia(value) {
  const name = "media";
  const keys = ["kind", "name", "width", "height", "numFrames", "frameRate", "hasSound"];
  const media = readRecord(value, name, keys);
  const kinds = ["picture", "video", "live"];
  check(kinds.includes(media.kind), `${name}.kind`, `be one of ${kinds.join(", ")}`, media.kind);
  readText(media.name, `${name}.name`);
  readCount(media.width, `${name}.width`, 1, LARGEST_SIDE);
  readCount(media.height, `${name}.height`, 1, LARGEST_SIDE);
  const numPixels = media.width * media.height;
  check(numPixels <= MOST_PIXELS, `${name}.width`, `make at most ${MOST_PIXELS} pixels with the height`, media.width);
  readCount(media.numFrames, `${name}.numFrames`, 0, media.kind === "picture" ? 1 : MOST_FRAMES);
  check(readNumber(media.frameRate, `${name}.frameRate`) >= 0, `${name}.frameRate`, "not be negative", media.frameRate);
  readFlag(media.hasSound, `${name}.hasSound`);
  return media;
}

/**
 * @param {any} value
 * @param {string} name
 * @returns {ObjectData}
 */
function readObject(value, name) {
  const object = readRecord(value, name, ["id", "name", "colour", "isVisible"]);
  readCount(object.id, `${name}.id`, 1, LARGEST_ID);
  readText(object.name, `${name}.name`);
  const colour = readList(object.colour, `${name}.colour`, (level, place) => readCount(level, place, 0, 255));
  check(colour.length === 3, `${name}.colour`, "have three levels", colour.length);
  readFlag(object.isVisible, `${name}.isVisible`);
  return object;
}

/**
 * @param {any} value
 * @param {string} name
 * @param {Media} media
 * @param {ReadonlySet<number>} ids of objects
 * @returns {Said}
 */
function readSaid(value, name, media, ids) {
  const said = readRecord(value, name, ["objectId", "frameIdx", "prompts", "choice"]);
  checkObject(said.objectId, `${name}.objectId`, ids);
  readCount(said.frameIdx, `${name}.frameIdx`, 0, media.numFrames - 1);
  const prompts = readList(said.prompts, `${name}.prompts`, (one, place) => readPrompt(one, place, media));
  check(prompts.length > 0, `${name}.prompts`, "not be empty", "none");
  readCount(said.choice, `${name}.choice`, 0, NUM_CANDIDATES - 1);
  return { ...said, prompts };
}

/**
 * @param {any} value
 * @param {string} name
 * @param {Media} media
 * @returns {Prompt}
 */
function readPrompt(value, name, media) {
  const prompt = readRecord(value, name, ["points", "labels", "box", "mask"]);
  const points = readList(prompt.points, `${name}.points`, (point, place) => readNumbers(point, place, 2));
  const labels = readList(prompt.labels, `${name}.labels`, (label, place) => readCount(label, place, 0, 1));
  check(labels.length === points.length, `${name}.labels`, `be ${points.length}, as many as points`, labels.length);
  const box = prompt.box === null ? null : readNumbers(prompt.box, `${name}.box`, 4);
  const mask = prompt.mask === null ? null : decompressRuns(readText(prompt.mask, `${name}.mask`), media, `${name}.mask`);
  check(points.length > 0 || Boolean(box || mask), name, "have points, a box or a mask", "none");
  return { points, labels, box, mask };
}

/**
 * @param {any} value
 * @param {string} name
 * @param {Media} media
 * @param {ReadonlySet<number>} ids of objects
 * @returns {FoundFrame}
 */
function readFrame(value, name, media, ids) {
  const { frameIdx, objects } = readRecord(value, name, ["frameIdx", "objects"]);
  readCount(frameIdx, `${name}.frameIdx`, 0, media.numFrames - 1);
  const found = readList(objects, `${name}.objects`, (one, place) => readFound(one, place, media, ids));
  readIds(found.map(({ objectId }) => objectId), `${name}.objects`);
  return { frameIdx, objects: found };
}

/**
 * @param {any} value
 * @param {string} name
 * @param {Media} media
 * @param {ReadonlySet<number>} ids of objects
 * @returns {Found}
 */
function readFound(value, name, media, ids) {
  const { objectId, mask, iouScore, isPresent } = readRecord(value, name, ["objectId", "mask", "iouScore", "isPresent"]);
  checkObject(objectId, `${name}.objectId`, ids);
  const runs = decompressRuns(readText(mask, `${name}.mask`), media, `${name}.mask`);
  readNumber(iouScore, `${name}.iouScore`);
  return { objectId, runs, iouScore, isPresent: readFlag(isPresent, `${name}.isPresent`) };
}

/**
 * @param {any} value
 * @returns {value is Record<string, any>}
 */
function isRecord(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * An object with just these keys.
 *
 * @param {any} value
 * @param {string} name
 * @param {string[]} keys
 * @returns {any}
 */
function readRecord(value, name, keys) {
  const given = isRecord(value) ? Object.keys(value) : [];
  const isSame = isRecord(value) && given.length === keys.length && keys.every((key) => Object.hasOwn(value, key));
  check(isSame, name, `have just ${keys.join(", ")}`, isRecord(value) ? given.join(", ") : value);
  return value;
}

/**
 * @template T
 * @param {any} value
 * @param {string} name
 * @param {(item: any, name: string) => T} readItem
 * @returns {T[]}
 */
function readList(value, name, readItem) {
  check(Array.isArray(value), name, "be a list", value);
  return value.map((/** @type {any} */ item, /** @type {number} */ idx) => readItem(item, `${name}[${idx}]`));
}

/**
 * @param {any} value
 * @param {string} name
 * @param {number} length
 * @returns {number[]}
 */
function readNumbers(value, name, length) {
  const numbers = readList(value, name, readNumber);
  check(numbers.length === length, name, `have ${length} numbers`, numbers.length);
  return numbers;
}

/**
 * @param {any} value
 * @param {string} name
 * @returns {number}
 */
function readNumber(value, name) {
  check(Number.isFinite(value), name, "be a number", value);
  return value;
}

/**
 * @param {any} value
 * @param {string} name
 * @param {number} least
 * @param {number} most
 * @returns {number}
 */
function readCount(value, name, least, most) {
  check(Number.isInteger(value) && value >= least && value <= most, name, `be in ${least}..${most}`, value);
  return value;
}

/**
 * @param {any} value
 * @param {string} name
 * @returns {string}
 */
function readText(value, name) {
  check(typeof value === "string", name, "be text", value);
  return value;
}

/**
 * @param {any} value
 * @param {string} name
 * @returns {boolean}
 */
function readFlag(value, name) {
  check(typeof value === "boolean", name, "be true or false", value);
  return value;
}

/**
 * The set of ids that are all different.
 *
 * @param {number[]} ids
 * @param {string} name
 */
function readIds(ids, name) {
  const found = new Set(ids);
  check(found.size === ids.length, name, "have each object once", ids.join(", "));
  return found;
}

/**
 * @param {any} value
 * @param {string} name
 * @param {ReadonlySet<number>} ids
 */
function checkObject(value, name, ids) {
  check(ids.has(value), name, "be the id of an object", value);
}

/**
 * @template T
 * @param {readonly T[]} items
 * @param {string} name
 * @param {(one: T, other: T) => number} difference
 */
function checkAscending(items, name, difference) {
  const wrong = items.findIndex((item, idx) => idx > 0 && difference(items[idx - 1], item) >= 0);
  check(wrong < 0, `${name}[${wrong}]`, "come after the one before it, by frame and object", "another order");
}

/**
 * @param {boolean} isRight
 * @param {string} name
 * @param {string} expected
 * @param {any} value
 */
function check(isRight, name, expected, value) {
  if (isRight) return;
  const shown = (JSON.stringify(value) ?? "nothing").slice(0, 60);
  throw new Error(`The project is damaged: ${name} must ${expected}, got ${shown}.`);
}
