/**
 * Everything in a picture: masks of all objects, found by clicks on a grid, as `pipeline_edgetam.py` finds them.
 *
 *     crops -> grid -> confident masks -> stable masks that the crop does not cut -> non-maximum suppression -> runs
 *
 * Boxes are [left, top, right, bottom] in pixels of the picture, right and bottom included.
 */
import { enlargeMask, neighbours } from "../resize.js";
import { encodeRuns } from "./runs.js";

/** @typedef {import("./engine.js").Found} Found */
/** @typedef {import("../picture.js").Picture} Picture */
/** @typedef {import("../types.js").Size} Size */
/** @typedef {{ left: number, top: number, width: number, height: number, layer: number }} Crop part of the picture */

/**
 * @typedef {object} Candidate
 * @property {Float32Array} logits low-res, of the crop
 * @property {Size} logitsSize
 * @property {Crop} crop
 * @property {number[]} box
 * @property {number} iouScore
 */

/**
 * @typedef {object} Search
 * @property {(crop: Crop) => Promise<Picture>} encode
 * @property {Size} size of the picture
 * @property {number} pointsPerSide
 * @property {Partial<typeof DEFAULTS>} options those of the checkpoint, `mask_generation` in preprocessor_config.json
 * @property {import("./engine.js").OnProgress} onProgress in points
 * @property {() => Promise<boolean>} isAborted whether to end with what was found so far
 */

/** Options by the names of the pipeline, which says what each does. */
export const DEFAULTS = {
  crops_n_layers: 0,
  crop_overlap_ratio: 512 / 1500,
  crop_n_points_downscale_factor: 1,
  pred_iou_thresh: 0.88,
  stability_score_thresh: 0.95,
  stability_score_offset: 1,
  mask_threshold: 0,
  max_hole_area: 0,
  max_sprinkle_area: 0,
  crops_nms_thresh: 0.7,
};
const POINTS_PER_BATCH = 8;
const CROP_EDGE_TOLERANCE = 20; // pixels
const REPAIRED_LOGIT = 10; // distance from the threshold of filled holes and removed specks

/**
 * All masks of a picture, best first, numbered from 1.
 *
 * @param {Search} search
 * @returns {Promise<Found[]>}
 */
export async function findEverything({ encode, size, pointsPerSide, options: given, onProgress, isAborted }) {
  const options = { ...DEFAULTS, ...given };
  const crops = cropsOf(size, options);
  const grids = crops.map((crop) => {
    return gridOf(crop, Math.floor(pointsPerSide / options.crop_n_points_downscale_factor ** crop.layer));
  });
  const numPoints = grids.reduce((sum, grid) => sum + grid.length, 0);
  const candidates = [];
  let numDone = 0;
  for (const [i, crop] of crops.entries()) {
    if (await isAborted()) break;
    const picture = await encode(crop);
    for (let first = 0; first < grids[i].length && !(await isAborted()); first += POINTS_PER_BATCH) {
      const points = grids[i].slice(first, first + POINTS_PER_BATCH);
      const found = (await picture.prompt({ points: points.map((point) => [point]) })).flat();
      for (const { logits, logitsSize, iouScore } of found) {
        const candidate = iouScore > (options.pred_iou_thresh || -1) && check(logits, logitsSize, crop, size, options);
        if (candidate) candidates.push({ ...candidate, logitsSize, crop, iouScore });
      }
      numDone += points.length;
      onProgress(numDone, numPoints);
    }
  }
  return withoutDuplicates(candidates, options.crops_nms_thresh).map((candidate, i) => {
    const runs = runsOf(candidate, size, options.mask_threshold);
    return { objectId: i + 1, runs, iouScore: candidate.iouScore, isPresent: true };
  });
}

/**
 * The whole picture, then for each layer i its 2**i x 2**i overlapping crops, column by column.
 *
 * @param {Size} size
 * @param {typeof DEFAULTS} options
 * @returns {Crop[]}
 */
function cropsOf({ width, height }, { crops_n_layers: numLayers, crop_overlap_ratio: overlapRatio }) {
  const crops = [{ left: 0, top: 0, width, height, layer: 0 }];
  for (let layer = 1; layer <= numLayers; layer++) {
    const numPerSide = 2 ** layer;
    const overlap = Math.floor(overlapRatio * Math.min(height, width) * (2 / numPerSide));
    const [cropWidth, cropHeight] = [width, height].map((side) => {
      return Math.ceil((overlap * (numPerSide - 1) + side) / numPerSide);
    });
    for (let i = 0; i < numPerSide ** 2; i++) {
      const left = Math.floor(i / numPerSide) * (cropWidth - overlap);
      const top = (i % numPerSide) * (cropHeight - overlap);
      const part = { width: Math.min(cropWidth, width - left), height: Math.min(cropHeight, height - top) };
      if (part.width > 0 && part.height > 0) crops.push({ left, top, ...part, layer });
    }
  }
  return crops;
}

/**
 * Centres of an even grid over a crop, (x, y) in pixels of the crop.
 *
 * @param {Crop} crop
 * @param {number} numPerSide
 * @returns {number[][]}
 */
function gridOf({ width, height }, numPerSide) {
  return Array.from({ length: numPerSide ** 2 }, (_, i) => {
    return [((i % numPerSide) + 0.5) / numPerSide * width, (Math.floor(i / numPerSide) + 0.5) / numPerSide * height];
  });
}

/**
 * The repaired logits and the box of a mask; `null` if it is not stable, or cut by the edge of its crop.
 *
 * @param {Float32Array} found
 * @param {Size} logitsSize
 * @param {Crop} crop
 * @param {Size} size of the picture
 * @param {typeof DEFAULTS} options
 */
function check(found, logitsSize, crop, size, options) {
  const logits = repair(found, logitsSize, options);
  const measured = measure(logits, logitsSize, crop, options.mask_threshold, options.stability_score_offset);
  const { stability_score_thresh: lowest } = options;
  if (!measured || (lowest > 0 && !(measured.stability > lowest))) return null;
  const box = measured.box.map((side, i) => side + (i % 2 ? crop.top : crop.left));
  const edges = [crop.left, crop.top, crop.left + crop.width, crop.top + crop.height];
  const isCut = [0, 0, size.width, size.height].some((pictureEdge, i) => {
    const [fromCrop, fromPicture] = [edges[i], pictureEdge].map((edge) => Math.abs(box[i] - edge));
    return fromCrop <= CROP_EDGE_TOLERANCE && fromPicture > CROP_EDGE_TOLERANCE;
  });
  return isCut ? null : { logits, box };
}

/**
 * Logits without small holes and specks.
 *
 * @param {Float32Array} logits
 * @param {Size} size
 * @param {typeof DEFAULTS} options
 * @returns {Float32Array}
 */
function repair(logits, size, { mask_threshold: threshold, max_hole_area: maxHole, max_sprinkle_area: maxSprinkle }) {
  if (!maxHole && !maxSprinkle) return logits;
  const repaired = logits.slice();
  for (const region of regionsOf(logits.map((logit) => Number(logit > threshold)), size)) {
    const isOn = logits[region[0]] > threshold;
    const most = isOn ? maxSprinkle : maxHole;
    if (region.length > most) continue;
    for (const pixel of region) repaired[pixel] = threshold + (isOn ? -REPAIRED_LOGIT : REPAIRED_LOGIT);
  }
  return repaired;
}

/**
 * Pixels of each region of equal values, which may also touch at corners.
 *
 * @param {Float32Array} values
 * @param {Size} size
 * @returns {number[][]}
 */
function regionsOf(values, { width, height }) {
  const isSeen = new Uint8Array(values.length);
  const regions = [];
  for (let start = 0; start < values.length; start++) {
    if (isSeen[start]) continue;
    const region = [start];
    isSeen[start] = 1;
    for (let i = 0; i < region.length; i++) {
      const [x, y] = [region[i] % width, Math.floor(region[i] / width)];
      for (let nextY = Math.max(y - 1, 0); nextY <= Math.min(y + 1, height - 1); nextY++) {
        for (let nextX = Math.max(x - 1, 0); nextX <= Math.min(x + 1, width - 1); nextX++) {
          const next = nextY * width + nextX;
          if (isSeen[next] || values[next] !== values[start]) continue;
          isSeen[next] = 1;
          region.push(next);
        }
      }
    }
    regions.push(region);
  }
  return regions;
}

/**
 * The box of a mask at the size of its crop, and its stability: the IoU of the masks that are cut above and below the
 * threshold. `null` for an empty mask.
 *
 * @param {Float32Array} logits
 * @param {Size} from their size
 * @param {Size} to the size of the crop
 * @param {number} threshold
 * @param {number} offset
 */
function measure(logits, from, to, threshold, offset) {
  const columns = neighbours(from.width, to.width);
  const rows = neighbours(from.height, to.height);
  const [firstX, lastX, firstY, lastY] = reachOf(logits, from, threshold - offset, columns, rows);
  let [left, top, right, bottom, numAbove, numBelow] = [to.width, to.height, -1, -1, 0, 0];
  const line = new Float32Array(from.width);
  for (let y = firstY; y <= lastY; y++) {
    const [before, after, part] = [rows.before[y] * from.width, rows.after[y] * from.width, rows.parts[y]];
    for (let x = columns.before[firstX]; x <= columns.after[lastX]; x++) {
      line[x] = logits[before + x] * (1 - part) + logits[after + x] * part;
    }
    for (let x = firstX; x <= lastX; x++) {
      const logit = line[columns.before[x]] * (1 - columns.parts[x]) + line[columns.after[x]] * columns.parts[x];
      if (logit > threshold - offset) numBelow++;
      if (logit > threshold + offset) numAbove++;
      if (logit <= threshold) continue;
      if (x < left) left = x;
      if (x > right) right = x;
      if (y < top) top = y;
      bottom = y;
    }
  }
  return right < 0 ? null : { box: [left, top, right, bottom], stability: numAbove / numBelow };
}

/**
 * First and last column, first and last row of the larger size that logits above a level can reach; none if there are
 * no such logits.
 *
 * @param {Float32Array} logits
 * @param {Size} from
 * @param {number} level
 * @param {ReturnType<typeof neighbours>} columns
 * @param {ReturnType<typeof neighbours>} rows
 */
function reachOf(logits, from, level, columns, rows) {
  const [onColumn, onRow] = [new Uint8Array(from.width), new Uint8Array(from.height)];
  for (let i = 0; i < logits.length; i++) {
    if (logits[i] > level) onColumn[i % from.width] = onRow[Math.floor(i / from.width)] = 1;
  }
  return [[columns, onColumn], [rows, onRow]].flatMap(([line, on]) => {
    const { before, after } = /** @type {typeof columns} */ (line);
    const isReached = (/** @type {number} */ old, /** @type {number} */ i) => {
      return Boolean(/** @type {Uint8Array} */ (on)[old] || /** @type {Uint8Array} */ (on)[after[i]]);
    };
    const first = before.findIndex(isReached);
    return first < 0 ? [0, -1] : [first, before.findLastIndex(isReached)];
  });
}

/**
 * Best first, without those whose box overlaps that of a better one with a higher IoU than allowed.
 *
 * @param {Candidate[]} candidates
 * @param {number} maxOverlap
 * @returns {Candidate[]}
 */
function withoutDuplicates(candidates, maxOverlap) {
  /** @type {Candidate[]} */
  const kept = [];
  for (const candidate of [...candidates].sort((a, b) => b.iouScore - a.iouScore)) {
    if (kept.every(({ box }) => !(overlapOf(box, candidate.box) > maxOverlap))) kept.push(candidate);
  }
  return kept;
}

/**
 * IoU of two boxes.
 *
 * @param {number[]} one
 * @param {number[]} other
 */
function overlapOf(one, other) {
  const area = (/** @type {number[]} */ [left, top, right, bottom]) => (right - left) * (bottom - top);
  const width = Math.min(one[2], other[2]) - Math.max(one[0], other[0]);
  const height = Math.min(one[3], other[3]) - Math.max(one[1], other[1]);
  const common = Math.max(width, 0) * Math.max(height, 0);
  return common / (area(one) + area(other) - common);
}

/**
 * Runs of a mask at the size of the picture.
 *
 * @param {Candidate} candidate
 * @param {Size} size
 * @param {number} threshold
 */
function runsOf({ logits, logitsSize, crop }, size, threshold) {
  const part = enlargeMask(logits, logitsSize, crop, threshold);
  const pixels = new Uint8Array(size.width * size.height);
  for (let y = 0; y < crop.height; y++) {
    pixels.set(part.subarray(y * crop.width, (y + 1) * crop.width), (crop.top + y) * size.width + crop.left);
  }
  return encodeRuns(pixels, size);
}
