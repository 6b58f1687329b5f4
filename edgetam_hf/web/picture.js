/** A picture that is encoded once and prompted often. */
import { FoundMask } from "./masks.js";
import { countObjects, readClicks } from "./prompts.js";

/** @typedef {import("./stages.js").Decoded} Decoded */
/** @typedef {import("./stages.js").DecoderPrompt} DecoderPrompt */
/** @typedef {import("./stages.js").Stages} Stages */
/** @typedef {import("./types.js").Embeddings} Embeddings */
/** @typedef {import("./types.js").PromptInput} PromptInput */
/** @typedef {import("./types.js").Size} Size */

const MAX_OBJECTS_PER_BATCH = 8;

export class Picture {
  #stages;
  #embeddings;

  /**
   * @param {Stages} stages
   * @param {Embeddings} embeddings
   * @param {Size} size of the picture
   */
  constructor(stages, embeddings, size) {
    this.#stages = stages;
    this.#embeddings = embeddings;
    this.size = size;
  }

  /**
   * Masks of prompted objects, [object][mask]: three for ambiguous prompts, or without `multimask` one.
   *
   * An object may have points, a box and an earlier mask, a `FoundMask` or its logits, together.
   *
   * @param {PromptInput & { masks?: (FoundMask | Float32Array | null)[] | null, multimask?: boolean }} prompts
   * @returns {Promise<FoundMask[][]>}
   */
  async prompt({ points, labels, boxes, masks, multimask = true }) {
    const numObjects = countObjects({ points, boxes, masks });
    const clicked = readClicks({ points, labels, boxes }, numObjects, this.size, this.#stages.description.imageSize);
    const prompts = clicked.map((clicks, object) => {
      const mask = masks?.[object] ? this.#readLogits(masks[object], `masks[${object}]`) : null;
      if (clicks.labels.length === 0 && !mask) throw new RangeError(`object ${object} has no prompt`);
      return { clicks, mask, isAmbiguous: false };
    });
    const found = [];
    for (let first = 0; first < numObjects; first += MAX_OBJECTS_PER_BATCH) {
      found.push(...(await this.#decode(prompts.slice(first, first + MAX_OBJECTS_PER_BATCH), multimask)));
    }
    return found;
  }

  /**
   * @param {DecoderPrompt[]} prompts
   * @param {boolean} multimask
   * @returns {Promise<FoundMask[][]>}
   */
  async #decode(prompts, multimask) {
    const conditioned = this.#stages.forgetMemory(this.#embeddings, prompts.length);
    const decoded = await this.#stages.decode(this.#embeddings, conditioned, prompts);
    return prompts.map((_, object) => {
      const candidates = this.#candidates(decoded, object);
      // the mask that the graph chose is empty where the object seems absent; its candidate is not
      const chosen = candidates.filter(({ iouScore }) => iouScore === decoded.iouScores[object]);
      return multimask ? candidates.slice(1) : chosen.slice(0, 1);
    });
  }

  /**
   * @param {Decoded} decoded
   * @param {number} object
   * @returns {FoundMask[]}
   */
  #candidates({ candidateMasks, candidateIouScores, objectScoreLogits }, object) {
    const { maskSize } = this.#stages.description;
    const { numMaskPixels } = this.#stages;
    return Array.from(candidateIouScores[object], (iouScore, i) => {
      const logits = candidateMasks[object].slice(i * numMaskPixels, (i + 1) * numMaskPixels);
      return new FoundMask(logits, maskSize, this.size, iouScore, objectScoreLogits[object]);
    });
  }

  /**
   * @param {any} mask
   * @param {string} name
   * @returns {Float32Array}
   */
  #readLogits(mask, name) {
    const logits = mask.logits ?? mask;
    if (!(logits instanceof Float32Array) || logits.length !== this.#stages.numMaskPixels) {
      const { width, height } = this.#stages.description.maskSize;
      throw new TypeError(`${name} must be a mask that was found, or its ${width} x ${height} logits, a Float32Array`);
    }
    return logits;
  }
}
