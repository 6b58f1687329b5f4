/** Masks as the JSON files of COCO, YouTube-VIS and SA-V, laid out as the commands of `edgetam` write and read them. */
import { BlobParts } from "./blob_parts.js";
import { compressRuns } from "./coco_runs.js";
import { baseNameOf, frameName, stemOf } from "./file_names.js";
import { inTurns } from "./frame_loop.js";
import { joinPrompts } from "./project.js";
import { areaOf, boxOf } from "./runs.js";

/** @typedef {import("./engine.js").Found} Found */
/** @typedef {import("./engine.js").FoundFrame} FoundFrame */
/** @typedef {import("./engine.js").Media} Media */
/** @typedef {import("./engine.js").OnProgress} OnProgress */
/** @typedef {import("./project.js").ObjectData} ObjectData */
/** @typedef {import("./project.js").ProjectData} ProjectData */

const UNNAMED = /^(object( \d+)?)?$/i; // what the page calls an object until the user does
const DEFAULT_CATEGORY = "object";
const ANNOTATED_EVERY = 4; // frames of SA-V
const FRAMES_AT_ONCE = 256; // that are written as one text

/**
 * A COCO dataset of a picture.
 *
 * @param {ProjectData} project
 */
export function pictureCoco(project) {
  const { media: { name, width, height }, objects, prompts, frames } = project;
  const { ids, categories } = categoriesOf(objects);
  const found = (frames[0]?.objects ?? []).filter(({ runs }) => areaOf(runs) > 0);
  const annotations = found.map(({ objectId, runs, iouScore }, idx) => {
    const said = joinPrompts(prompts.find((one) => one.objectId === objectId)?.prompts ?? []);
    return {
      id: idx + 1, image_id: 1, category_id: ids.get(objectId), ...maskFields(runs, project.media), iscrowd: 0,
      object: objectId, score: rounded(iouScore), predicted_iou: rounded(iouScore), point_coords: said.points,
      point_labels: said.labels,
    };
  });
  const images = [{ id: 1, file_name: baseNameOf(name), height, width }];
  return json({ images, annotations, categories });
}

/**
 * A COCO dataset of a video: every frame that has results is an image.
 *
 * @param {ProjectData} project
 * @param {OnProgress} onProgress
 * @param {AbortSignal} signal
 */
export async function videoCoco({ media, objects, frames }, onProgress, signal) {
  const { ids, categories } = categoriesOf(objects);
  const { width, height } = media;
  const video = { id: 1, name: baseNameOf(media.name), length: frames.length, height, width };
  const parts = new BlobParts();
  parts.add(`{"videos":[${JSON.stringify(video)}],"images":[`);
  frames.forEach(({ frameIdx }, idx) => {
    const name = `${frameName(frameIdx)}.png`;
    const image = { id: idx + 1, video_id: 1, frame_id: frameIdx, file_name: name, height, width };
    parts.add(`${idx ? "," : ""}${JSON.stringify(image)}`);
  });
  parts.add('],"annotations":[');
  let [imageId, id] = [0, 0];
  for await (const frame of inTurns(frames, onProgress, signal)) {
    imageId++;
    for (const { objectId, runs } of present(frame)) {
      const annotation = {
        id: ++id, image_id: imageId, video_id: 1, track_id: objectId, category_id: ids.get(objectId),
        ...maskFields(runs, media), iscrowd: 0,
      };
      parts.add(`${id > 1 ? "," : ""}${JSON.stringify(annotation)}`);
    }
  }
  parts.add(`],"categories":${JSON.stringify(categories)}}`);
  return parts.blob("application/json");
}

/**
 * Results of YouTube-VIS: for each object a mask or null on each frame of the video, and the mean of its scores.
 *
 * @param {ProjectData} project
 * @param {OnProgress} onProgress
 * @param {AbortSignal} signal
 */
export async function youtubeVis({ media, objects, frames }, onProgress, signal) {
  const { ids } = categoriesOf(objects);
  const numFrames = Math.max(media.numFrames, 1 + (frames.at(-1)?.frameIdx ?? -1));
  const tracks = new Map(objects.map(({ id }) => [id, new Track(media)]));
  for await (const frame of inTurns(frames, onProgress, signal)) {
    for (const found of frame.objects) tracks.get(found.objectId)?.add(frame.frameIdx, found);
  }
  const parts = new BlobParts();
  for (const { id } of objects) {
    const track = /** @type {Track} */ (tracks.get(id));
    const fields = JSON.stringify({ video_id: 1, category_id: ids.get(id), score: track.score });
    parts.add(`${parts.length ? "," : "["}${fields.slice(0, -1)},"segmentations":[`);
    track.write(parts, numFrames);
    parts.add("]}");
  }
  parts.add(parts.length ? "]" : "[]");
  return parts.blob("application/json");
}

/** The texts of the masks of an object through a video. */
class Track {
  /** @type {string[]} */
  #texts = [];
  #total = 0;
  #numScores = 0;
  #media;

  /** @param {Media} media */
  constructor(media) {
    this.#media = media;
  }

  /** Mean predicted IoU where the object is present, as `edgetam track` has it. */
  get score() {
    return this.#numScores ? rounded(this.#total / this.#numScores) : 0;
  }

  /**
   * @param {number} frameIdx
   * @param {Found} found
   */
  add(frameIdx, { runs, iouScore, isPresent }) {
    while (this.#texts.length < frameIdx) this.#texts.push("null");
    this.#texts.push(areaOf(runs) ? JSON.stringify(segmentation(runs, this.#media)) : "null");
    if (!isPresent) return;
    this.#total += rounded(iouScore);
    this.#numScores++;
  }

  /**
   * @param {BlobParts} parts
   * @param {number} numFrames
   */
  write(parts, numFrames) {
    for (let first = 0; first < numFrames; first += FRAMES_AT_ONCE) {
      const length = Math.min(FRAMES_AT_ONCE, numFrames - first);
      const texts = Array.from({ length }, (_, idx) => this.#texts[first + idx] ?? "null");
      parts.add(`${first ? "," : ""}${texts.join()}`);
    }
  }
}

/**
 * Masklets of SA-V, as those that people have drawn: on every fourth frame from the first to the last that has results,
 * a mask of each object, which is empty where nothing is known.
 *
 * @param {ProjectData} project
 * @param {OnProgress} onProgress
 * @param {AbortSignal} signal
 */
export async function masklets({ media, objects, prompts, frames }, onProgress, signal) {
  const facts = objects.map(({ id }) => ({ id, area: 0, numMasks: 0, first: -1, changes: 0, isVisible: false }));
  const empty = JSON.stringify(segmentation(Uint32Array.of(media.width * media.height), media));
  const emptyFrame = `[${objects.map(() => empty).join()}]`;
  const parts = new BlobParts();
  let numFrames = 0;
  const add = (/** @type {string} */ text) => parts.add(`${numFrames++ ? "," : '{"masklet":['}${text}`);
  const annotated = frames.filter(({ frameIdx }) => frameIdx % ANNOTATED_EVERY === 0);
  for await (const frame of inTurns(annotated, onProgress, signal)) {
    while (numFrames * ANNOTATED_EVERY < frame.frameIdx) add(emptyFrame);
    const found = new Map(present(frame).map((one) => [one.objectId, one.runs]));
    for (const fact of facts) countMask(fact, frame.frameIdx, found.get(fact.id));
    const texts = objects.map(({ id }) => found.get(id)).map((runs) => (
      runs ? JSON.stringify(segmentation(runs, media)) : empty
    ));
    add(`[${texts.join()}]`);
  }
  if (numFrames === 0) throw new Error("SA-V has masks on every fourth frame, of which none has results: follow first");
  const edited = objects.map(({ id }) => prompts.filter((said) => said.objectId === id).length);
  parts.add(`],${JSON.stringify(maskletFields(media, facts, edited, numFrames)).slice(1)}`);
  return parts.blob("application/json");
}

/**
 * @typedef {object} MaskletFacts
 * @property {number} id
 * @property {number} area of all masks together
 * @property {number} numMasks
 * @property {number} first frame with a mask, -1 so far
 * @property {number} changes between being visible and not, after the first mask
 * @property {boolean} isVisible on the last frame
 */

/**
 * @param {MaskletFacts} fact
 * @param {number} frameIdx
 * @param {Uint32Array | undefined} runs
 */
function countMask(fact, frameIdx, runs) {
  const isVisible = runs !== undefined;
  if (fact.first >= 0 && isVisible !== fact.isVisible) fact.changes++;
  if (fact.first < 0 && isVisible) fact.first = frameIdx;
  fact.isVisible = isVisible;
  if (!runs) return;
  fact.area += areaOf(runs);
  fact.numMasks++;
}

/**
 * @param {Media} media
 * @param {MaskletFacts[]} facts of each object
 * @param {number[]} edited for each object, on how many frames it was prompted
 * @param {number} numAnnotated frames
 */
function maskletFields(media, facts, edited, numAnnotated) {
  const resolution = media.width * media.height;
  const areas = facts.map(({ area, numMasks }) => (numMasks ? area / numMasks : 0));
  return {
    video_id: stemOf(media.name),
    video_duration: media.frameRate ? media.numFrames / media.frameRate : 0,
    video_frame_count: media.numFrames,
    video_height: media.height,
    video_width: media.width,
    video_resolution: resolution,
    masklet_id: facts.map(({ id }) => id),
    masklet_size_rel: areas.map((area) => area / resolution),
    masklet_size_abs: areas,
    masklet_size_bucket: areas.map((area) => (area < 32 ** 2 ? "small" : area < 96 ** 2 ? "medium" : "large")),
    masklet_visibility_changes: facts.map(({ changes }) => changes),
    masklet_first_appeared_frame: facts.map(({ first }) => first),
    masklet_frame_count: facts.map(() => numAnnotated),
    masklet_edited_frame_count: edited,
    masklet_type: facts.map(() => "manual"),
    masklet_num: facts.length,
  };
}

/**
 * Categories by the names of the objects, and the id of that of each object; those without a name of their own share one.
 *
 * @param {readonly ObjectData[]} objects
 */
function categoriesOf(objects) {
  const numbers = new Map();
  const ids = new Map();
  for (const { id, name } of objects) {
    const plain = name.replace(/[\p{Cc}\p{Cs}]/gu, " ").trim();
    const category = UNNAMED.test(plain) ? DEFAULT_CATEGORY : plain;
    if (!numbers.has(category)) numbers.set(category, numbers.size + 1);
    ids.set(id, numbers.get(category));
  }
  if (numbers.size === 0) numbers.set(DEFAULT_CATEGORY, 1);
  return { ids, categories: [...numbers].map(([name, id]) => ({ id, name })) };
}

/**
 * What was found on a frame, without empty masks.
 *
 * @param {FoundFrame} frame
 */
function present({ objects }) {
  return objects.filter(({ runs }) => areaOf(runs) > 0);
}

/**
 * @param {Uint32Array} runs
 * @param {Media} media
 */
function maskFields(runs, media) {
  return { segmentation: segmentation(runs, media), bbox: boxOf(runs, media), area: areaOf(runs) };
}

/**
 * @param {Uint32Array} runs
 * @param {Media} media
 */
function segmentation(runs, { width, height }) {
  return { size: [height, width], counts: compressRuns(runs) };
}

/** @param {number} score */
function rounded(score) {
  return Math.round(score * 1e4) / 1e4;
}

/** @param {object} data */
function json(data) {
  return new Blob([JSON.stringify(data)], { type: "application/json" });
}
