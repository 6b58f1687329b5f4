/**
 * The stages of EdgeTAM on exported graphs: functions of arrays, which keep no state.
 *
 *     frame -> image embeddings, once for all objects -> attend to memory -> decode masks -> encode memory
 *
 * Shapes are those of types.js. Objects that are computed together are lists; all else is for one picture.
 */

/** @typedef {import("./folder.js").Description} Description */
/** @typedef {import("./graphs.js").Graphs} Graphs */
/** @typedef {import("./types.js").Clicks} Clicks */
/** @typedef {import("./types.js").Embeddings} Embeddings */
/** @typedef {import("./types.js").ObjectMemory} ObjectMemory */
/** @typedef {import("./types.js").Outputs} Outputs */
/** @typedef {import("./types.js").Prediction} Prediction */
/** @typedef {import("./types.js").Tensor} Tensor */

export const PICTURE_GRAPHS = ["vision_encoder", "object_decoder"];
export const VIDEO_GRAPHS = ["memory_attention", "mask_adopter", "memory_encoder"];
export const ABSENT_LOGIT = -1024; // of every pixel of an object that is not in the picture
const NOT_A_POINT_LABEL = -1; // a point without a position; it changes nothing where there is no other
const PADDING_LABEL = -10;

/**
 * @typedef {object} Decoded what the decoder has found, by object
 * @property {Float32Array[]} masks low-res logits (4h, 4w)
 * @property {Float32Array} iouScores
 * @property {Float32Array} objectScoreLogits
 * @property {Float32Array[]} pointers (C,), none from a model for pictures only
 * @property {Float32Array[]} candidateMasks (4, 4h, 4w), a single mask and three for ambiguous prompts
 * @property {Float32Array[]} candidateIouScores (4,)
 */

/**
 * @typedef {object} DecoderPrompt what is asked of the decoder for one object
 * @property {Clicks} clicks none for an object that is tracked
 * @property {Float32Array | null} mask low-res logits of an earlier mask
 * @property {boolean} isAmbiguous whether to choose the best of three masks
 */

export class Stages {
  #graphs;

  /**
   * @param {Graphs} graphs
   * @param {Description} description
   */
  constructor(graphs, description) {
    this.#graphs = graphs;
    this.description = description;
    const { imageSize, maskSize } = description;
    this.numMaskPixels = maskSize.width * maskSize.height;
    this.gridDims = [imageSize.height / 16, imageSize.width / 16]; // (h, w)
  }

  /**
   * Image embeddings of pixel values (1, 3, H, W).
   *
   * @param {Float32Array} values
   * @returns {Promise<Embeddings>}
   */
  async encode(values) {
    const { width, height } = this.description.imageSize;
    const outputs = await this.#graphs.run("vision_encoder", { pixel_values: floats(values, [1, 3, height, width]) });
    return [0, 1, 2].map((level) => outputs[`image_embeddings.${level}`]);
  }

  /**
   * The map of stride 16 as seen by objects that remember nothing, (O, C, h, w).
   *
   * @param {Embeddings} embeddings
   * @param {number} numObjects
   * @returns {Float32Array}
   */
  forgetMemory(embeddings, numObjects) {
    return join(new Array(numObjects).fill(embeddings[2]));
  }

  /**
   * The map of stride 16 as seen by objects that remember equally many frames and pointers, (O, C, h, w).
   *
   * @param {Embeddings} embeddings
   * @param {ObjectMemory[]} memories
   * @returns {Promise<Float32Array>}
   */
  async attendToMemory(embeddings, memories) {
    const { numLatents, numMemoryChannels, numChannels } = this.description;
    const numObjects = memories.length;
    const [{ features, pointers }] = memories;
    const outputs = await this.#graphs.run("memory_attention", {
      frame_embedding: this.#frameEmbedding(embeddings),
      features: floats(
        join(memories.flatMap((memory) => memory.features)),
        [numObjects, features.length, numLatents, numMemoryChannels],
      ),
      time_idx: integers(memories.flatMap((memory) => memory.timeIdx), [numObjects, features.length]),
      pointers: floats(
        join(memories.flatMap((memory) => memory.pointers)),
        [numObjects, pointers.length, numChannels],
      ),
      pointer_offsets: floats(
        Float32Array.from(memories.flatMap((memory) => memory.pointerOffsets)),
        [numObjects, pointers.length],
      ),
    });
    return outputs.conditioned;
  }

  /**
   * What is found of prompted or tracked objects.
   *
   * @param {Embeddings} embeddings
   * @param {Float32Array} conditioned (O, C, h, w)
   * @param {DecoderPrompt[]} prompts
   * @returns {Promise<Decoded>}
   */
  async decode(embeddings, conditioned, prompts) {
    const { numChannels, maskSize } = this.description;
    const numObjects = prompts.length;
    const [gridHeight, gridWidth] = this.gridDims;
    const noMask = new Float32Array(this.numMaskPixels);
    const masks = prompts.map(({ mask }) => mask ?? noMask);
    const outputs = await this.#graphs.run("object_decoder", {
      "image_embeddings.0": floats(embeddings[0], [1, numChannels / 8, 4 * gridHeight, 4 * gridWidth]),
      "image_embeddings.1": floats(embeddings[1], [1, numChannels / 4, 2 * gridHeight, 2 * gridWidth]),
      conditioned: floats(conditioned, [numObjects, numChannels, gridHeight, gridWidth]),
      ...padClicks(prompts.map(({ clicks }) => clicks)),
      masks: floats(join(masks), [numObjects, maskSize.height, maskSize.width]),
      has_mask: flags(prompts.map(({ mask }) => mask !== null)),
      is_ambiguous: flags(prompts.map(({ isAmbiguous }) => isAmbiguous)),
    });
    return {
      masks: split(outputs.pred_masks, numObjects),
      iouScores: outputs.iou_scores,
      objectScoreLogits: outputs.object_score_logits,
      pointers: outputs.pointers ? split(outputs.pointers, numObjects) : [],
      candidateMasks: split(outputs.candidate_masks, numObjects),
      candidateIouScores: split(outputs.candidate_iou_scores, numObjects),
    };
  }

  /**
   * Predictions of tracked objects, or of clicks and boxes.
   *
   * @param {Embeddings} embeddings
   * @param {Float32Array} conditioned (O, C, h, w)
   * @param {DecoderPrompt[]} prompts
   * @returns {Promise<Prediction[]>}
   */
  async predict(embeddings, conditioned, prompts) {
    const decoded = await this.decode(embeddings, conditioned, prompts);
    return prompts.map((_, i) => ({
      mask: decoded.masks[i],
      iouScore: decoded.iouScores[i],
      objectScoreLogit: decoded.objectScoreLogits[i],
      pointer: decoded.pointers[i],
    }));
  }

  /**
   * What stands for predictions where masks are given; an empty one says that the object is absent.
   *
   * @param {Embeddings} embeddings
   * @param {Float32Array[]} masks (H, W), 0 and 1
   * @returns {Promise<Prediction[]>}
   */
  async adopt(embeddings, masks) {
    const { width, height } = this.description.imageSize;
    const adopted = await this.#graphs.run("mask_adopter", {
      frame_embedding: this.#frameEmbedding(embeddings),
      masks: floats(join(masks), [masks.length, height, width]),
    });
    const prompts = split(adopted.mask_prompts, masks.length).map((mask) => {
      return { clicks: { points: new Float32Array(), labels: [] }, mask, isAmbiguous: false };
    });
    const { pointers } = await this.decode(embeddings, adopted.conditioned, prompts);
    return split(adopted.pred_masks, masks.length).map((mask, i) => {
      const objectScoreLogit = adopted.object_score_logits[i];
      const pointer = objectScoreLogit > 0 ? pointers[i] : adopted.no_object_pointer;
      return { mask, iouScore: 1, objectScoreLogit, pointer };
    });
  }

  /**
   * What a frame leaves in memory, (K, m) of each object.
   *
   * @param {Embeddings} embeddings
   * @param {Prediction[]} predictions
   * @param {boolean[]} isPrompted whether they answer prompts
   * @returns {Promise<Float32Array[]>}
   */
  async encodeMemory(embeddings, predictions, isPrompted) {
    const { width, height } = this.description.maskSize;
    const numObjects = predictions.length;
    const scores = Float32Array.from(predictions, ({ objectScoreLogit }) => objectScoreLogit);
    const outputs = await this.#graphs.run("memory_encoder", {
      frame_embedding: this.#frameEmbedding(embeddings),
      masks: floats(join(predictions.map(({ mask }) => mask)), [numObjects, height, width]),
      object_score_logits: floats(scores, [numObjects]),
      is_prompted: flags(isPrompted),
    });
    return split(outputs.features, numObjects);
  }

  /**
   * @param {Embeddings} embeddings
   * @returns {Tensor}
   */
  #frameEmbedding(embeddings) {
    return floats(embeddings[2], [1, this.description.numChannels, ...this.gridDims]);
  }
}

/**
 * Points (O, N, 2) and labels (O, N); what some objects lack is padded, and those without any have no position.
 *
 * @param {Clicks[]} clicks
 * @returns {{ points: Tensor, labels: Tensor }}
 */
function padClicks(clicks) {
  const numObjects = clicks.length;
  const numPoints = Math.max(1, ...clicks.map(({ labels }) => labels.length));
  const points = new Float32Array(numObjects * numPoints * 2).fill(PADDING_LABEL);
  const labels = new Array(numObjects * numPoints).fill(PADDING_LABEL);
  clicks.forEach((one, object) => {
    const first = object * numPoints;
    points.set(one.points, first * 2);
    const given = one.labels.length ? one.labels : [NOT_A_POINT_LABEL];
    labels.splice(first, given.length, ...given);
  });
  return {
    points: floats(points, [numObjects, numPoints, 2]),
    labels: integers(labels, [numObjects, numPoints]),
  };
}

/**
 * @param {Float32Array} data
 * @param {number[]} dims
 * @returns {Tensor}
 */
function floats(data, dims) {
  return { type: "float32", data, dims };
}

/**
 * @param {number[]} values
 * @param {number[]} dims
 * @returns {Tensor}
 */
function integers(values, dims) {
  return { type: "int64", data: BigInt64Array.from(values, BigInt), dims };
}

/**
 * @param {boolean[]} values
 * @returns {Tensor}
 */
function flags(values) {
  return { type: "bool", data: Uint8Array.from(values, Number), dims: [values.length] };
}

/**
 * All numbers of arrays, one array after the other.
 *
 * @param {Float32Array[]} parts
 * @returns {Float32Array}
 */
function join(parts) {
  const joined = new Float32Array(parts.reduce((length, part) => length + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    joined.set(part, offset);
    offset += part.length;
  }
  return joined;
}

/**
 * Equal parts of an array, one for each object, as copies, so that what is kept of one object does not keep the others.
 *
 * @param {Float32Array} data
 * @param {number} numObjects
 * @returns {Float32Array[]}
 */
function split(data, numObjects) {
  const length = data.length / numObjects;
  return Array.from({ length: numObjects }, (_, i) => data.slice(i * length, (i + 1) * length));
}
