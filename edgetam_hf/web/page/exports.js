/** The files that the page gives the user to take home. */
import { masklets, pictureCoco, videoCoco, youtubeVis } from "./annotations.js";
import { frameName, objectFileNames, stemOf } from "./file_names.js";
import { inTurns } from "./frame_loop.js";
import { clearAround, paintObjects, topmost } from "./painting.js";
import { greyPng, palettePng } from "./png.js";
import { areaOf, boxOf } from "./runs.js";
import { zip } from "./zip.js";

/** @typedef {import("./engine.js").Engine} Engine */
/** @typedef {import("./engine.js").Found} Found */
/** @typedef {import("./engine.js").FoundFrame} FoundFrame */
/** @typedef {import("./engine.js").Media} Media */
/** @typedef {import("./engine.js").OnProgress} OnProgress */
/** @typedef {import("./project.js").ObjectData} ObjectData */
/** @typedef {import("./project.js").ProjectData} ProjectData */
/** @typedef {import("./zip.js").Entry} Entry */

/**
 * @typedef {object} Export
 * @property {string} kind
 * @property {string} label for the user
 * @property {"picture" | "video" | "any"} needs
 */

/**
 * @typedef {object} ExportedFile
 * @property {string} name
 * @property {Blob} blob
 */

/** @typedef {(project: ProjectData, engine: Engine, onProgress: OnProgress, signal: AbortSignal) => Promise<ExportedFile>} Exporter */

/** @type {readonly Export[]} */
export const EXPORTS = [
  { kind: "index", label: "Palette PNG, the number of the object at each pixel", needs: "any" },
  { kind: "overlay-picture", label: "Picture with the masks over it (PNG)", needs: "picture" },
  { kind: "overlay-video", label: "Film with the masks over it, with its sound (MP4)", needs: "video" },
  { kind: "coco", label: "COCO JSON with run lengths", needs: "any" },
  { kind: "youtube-vis", label: "YouTube-VIS JSON", needs: "video" },
  { kind: "sa-v", label: "SA-V masklets (JSON)", needs: "video" },
  { kind: "cutouts", label: "Cut-outs with transparency (PNG)", needs: "any" },
];

const LARGEST_PALETTE_ID = 255;
const LARGEST_ID = 65535; // of 16 bits

/** @type {Record<string, Exporter>} */
const EXPORTERS = {
  index: exportIndices,
  "overlay-picture": exportOverlayPicture,
  "overlay-video": exportOverlayVideo,
  coco: exportCoco,
  "youtube-vis": async (project, _, onProgress, signal) => (
    { name: `${stemOf(project.media.name)}_youtube_vis.json`, blob: await youtubeVis(project, onProgress, signal) }
  ),
  "sa-v": async (project, _, onProgress, signal) => (
    { name: `${stemOf(project.media.name)}_manual.json`, blob: await masklets(project, onProgress, signal) }
  ),
  cutouts: exportCutouts,
};

/**
 * A file of what was found.
 *
 * @param {string} kind one of `EXPORTS`
 * @param {ProjectData} project
 * @param {Engine} engine that has the picture or video open; only overlays and cut-outs ask it for anything
 * @param {OnProgress} onProgress
 * @param {AbortSignal} signal ends it with an AbortError
 * @returns {Promise<ExportedFile>}
 */
export async function exportFile(kind, project, engine, onProgress, signal) {
  const known = EXPORTS.find((one) => one.kind === kind);
  if (!known) throw new Error(`There is no export ${kind}, there are ${EXPORTS.map((one) => one.kind).join(", ")}`);
  if (known.needs !== "any" && known.needs !== project.media.kind) {
    throw new Error(`${known.label}: that is for a ${known.needs}, but a ${project.media.kind} is open`);
  }
  if (!project.frames.some((frame) => frame.objects.length > 0)) {
    throw new Error("There is no mask yet: click on an object first");
  }
  return EXPORTERS[kind](project, engine, onProgress, signal);
}

/** @type {Exporter} */
async function exportIndices(project, _, onProgress, signal) {
  const { media, objects, frames } = project;
  const stem = stemOf(media.name);
  const largest = Math.max(...objects.map(({ id }) => id));
  if (largest > LARGEST_ID) {
    throw new Error(`Index pictures number objects up to ${LARGEST_ID}, here is object ${largest}: remove it`);
  }
  const encode = (/** @type {FoundFrame} */ frame) => indexPng(frame, objects, largest, media);
  if (media.kind === "picture") {
    const png = await encode(frames[0]);
    return { name: `${stem}_mask.png`, blob: new Blob([png], { type: "image/png" }) };
  }
  const entries = async function* () {
    for await (const frame of inTurns(frames, onProgress, signal)) {
      yield { name: `${frameName(frame.frameIdx)}.png`, bytes: await encode(frame) };
    }
  };
  return { name: `${stem}_masks.zip`, blob: await zip(entries()) };
}

/**
 * Bytes of the index picture of a frame, in the colours of the objects unless there are too many for a palette.
 *
 * @param {FoundFrame} frame
 * @param {readonly ObjectData[]} objects
 * @param {number} largest of their ids
 * @param {Media} media
 */
function indexPng(frame, objects, largest, media) {
  const ids = topmost(frame.objects, media);
  if (largest > LARGEST_PALETTE_ID) return greyPng(ids, media);
  const palette = Array.from({ length: largest + 1 }, () => [0, 0, 0]);
  for (const { id, colour } of objects) palette[id] = [...colour];
  return palettePng(Uint8Array.from(ids), media, palette);
}

/** @type {Exporter} */
async function exportOverlayPicture({ media, objects, frames }, engine) {
  const { canvas, context } = await drawFrame(engine, 0, media);
  const image = context.getImageData(0, 0, media.width, media.height);
  const shown = new Map(objects.filter(({ isVisible }) => isVisible).map(({ id, colour }) => [id, colour]));
  paintObjects(image.data, frames[0].objects.filter(({ objectId }) => shown.has(objectId)), shown, media);
  context.putImageData(image, 0, 0);
  return { name: `${stemOf(media.name)}_overlay.png`, blob: await canvas.convertToBlob({ type: "image/png" }) };
}

/** @type {Exporter} */
async function exportOverlayVideo({ media, objects, frames }, engine, onProgress, signal) {
  const shown = objects.filter(({ isVisible }) => isVisible).map(({ id, colour }) => ({ objectId: id, colour }));
  const ids = new Set(shown.map(({ objectId }) => objectId));
  const byFrame = new Map(frames.map((frame) => [frame.frameIdx, frame.objects]));
  const results = {
    objects: shown,
    frames: [...byFrame.keys()],
    on: (/** @type {number} */ frameIdx) => (byFrame.get(frameIdx) ?? []).filter(({ objectId }) => ids.has(objectId)),
  };
  const blob = await engine.overlay(results, onProgress, signal);
  return { name: `${stemOf(media.name)}_overlay.${blob.type.includes("webm") ? "webm" : "mp4"}`, blob };
}

/** @type {Exporter} */
async function exportCoco(project, _, onProgress, signal) {
  const isPicture = project.media.kind === "picture";
  const blob = isPicture ? pictureCoco(project) : await videoCoco(project, onProgress, signal);
  return { name: `${stemOf(project.media.name)}_coco.json`, blob };
}

/** @type {Exporter} */
async function exportCutouts({ media, objects, frames }, engine, onProgress, signal) {
  const stem = stemOf(media.name);
  const names = objectFileNames(objects);
  const found = frames.map((frame) => ({ ...frame, objects: frame.objects.filter(({ runs }) => areaOf(runs) > 0) }));
  const numCutouts = found.reduce((sum, frame) => sum + frame.objects.length, 0);
  if (numCutouts === 0) throw new Error("All masks are empty: there is nothing to cut out");
  const pathOf = (/** @type {FoundFrame} */ { frameIdx }, /** @type {Found} */ { objectId }) => (
    media.kind === "picture" ? `${names.get(objectId)}.png` : `${names.get(objectId)}/${frameName(frameIdx)}.png`
  );
  const entries = async function* () {
    for await (const frame of inTurns(found.filter((one) => one.objects.length > 0), onProgress, signal)) {
      const { context } = await drawFrame(engine, frame.frameIdx, media);
      for (const one of frame.objects) yield { name: pathOf(frame, one), bytes: await cutOut(context, one.runs, media) };
    }
  };
  if (numCutouts > 1) return { name: `${stem}_cutouts.zip`, blob: await zip(entries()) };
  const [{ name, bytes }] = await all(entries());
  return { name: `${stem}_${name.replace("/", "_")}`, blob: new Blob([bytes], { type: "image/png" }) };
}

/**
 * Bytes of a PNG of an object's box, transparent around the object.
 *
 * @param {OffscreenCanvasRenderingContext2D} context of the whole frame
 * @param {Uint32Array} runs
 * @param {Media} media
 */
async function cutOut(context, runs, media) {
  const [left, top, width, height] = boxOf(runs, media);
  const image = context.getImageData(left, top, width, height);
  clearAround(image.data, runs, media);
  const canvas = new OffscreenCanvas(width, height);
  contextOf(canvas).putImageData(image, 0, 0);
  const blob = await canvas.convertToBlob({ type: "image/png" });
  return new Uint8Array(await blob.arrayBuffer());
}

/**
 * A frame on a canvas of the size of the picture or video.
 *
 * @param {Engine} engine
 * @param {number} frameIdx
 * @param {Media} media
 */
async function drawFrame(engine, frameIdx, { width, height }) {
  const canvas = new OffscreenCanvas(width, height);
  const context = contextOf(canvas);
  const frame = await engine.frame(frameIdx);
  context.drawImage(frame, 0, 0, width, height);
  frame.close();
  return { canvas, context };
}

/** @param {OffscreenCanvas} canvas */
function contextOf(canvas) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("This browser has no room to draw the picture: close other pages, and try again");
  return context;
}

/**
 * @template T
 * @param {AsyncIterable<T>} items
 */
async function all(items) {
  const found = [];
  for await (const item of items) found.push(item);
  return found;
}
