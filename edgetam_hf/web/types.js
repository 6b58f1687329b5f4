/**
 * Types that several files share; there is nothing here to run.
 *
 * Shapes: O objects, N points, F remembered frames, P object pointers, (H, W) the model input in pixels, (h, w) =
 * (H / 16, W / 16), C channels of the model, K latents of m channels that a frame leaves in memory.
 */

/**
 * @typedef {object} Size in pixels
 * @property {number} width
 * @property {number} height
 */

/**
 * @typedef {object} RawFrame
 * @property {Uint8Array | Uint8ClampedArray} data RGB or RGBA, row by row
 * @property {number} width
 * @property {number} height
 */

/** @typedef {CanvasImageSource} Drawable */
/** @typedef {RawFrame | ImageData | Drawable} Frame a picture, or a frame of a video */

/**
 * @typedef {object} PromptInput prompts of objects, in pixels of the picture; `null` where an object has none of a kind
 * @property {(number[][] | null)[] | null} [points] [object][point][x, y]
 * @property {(number[] | null)[] | null} [labels] [object][point]: 1 on the object (the default), 0 off the object
 * @property {(number[] | null)[] | null} [boxes] [object][x_min, y_min, x_max, y_max]
 */

/**
 * @typedef {object} Clicks a box and clicks of one object
 * @property {Float32Array} points (N, 2), (x, y) in pixels of the model input, the corners of a box first
 * @property {number[]} labels (N,): 1 on the object, 0 off the object, 2 and 3 the corners of a box
 */

/**
 * @typedef {object} Tensor
 * @property {"float32" | "int64" | "bool"} type
 * @property {Float32Array | BigInt64Array | Uint8Array} data
 * @property {readonly number[]} dims
 */

/** @typedef {Record<string, Float32Array>} Outputs data of the outputs of a graph, by name */

/**
 * @typedef {object} Ort what is used of ONNX Runtime, `import * as ort from "onnxruntime-web"`
 * @property {new (type: any, data: any, dims: readonly number[]) => any} Tensor
 * @property {{ create(bytes: Uint8Array, options?: object): Promise<OrtSession> }} InferenceSession
 * @property {any} env
 */

/**
 * @typedef {object} OrtSession
 * @property {readonly string[]} inputNames
 * @property {readonly string[]} outputNames
 * @property {(feeds: Record<string, any>) => Promise<Record<string, any>>} run
 * @property {() => Promise<void>} release
 */

/** @typedef {Float32Array[]} Embeddings maps of stride 4, 8 and 16 of one picture, (C / 8, H / 4, W / 4) and so on */

/**
 * @typedef {object} ObjectMemory what one object remembers on a frame
 * @property {Float32Array[]} features F times (K, m)
 * @property {number[]} timeIdx (F,), rows of the temporal encoding
 * @property {Float32Array[]} pointers P times (C,)
 * @property {number[]} pointerOffsets (P,), their distances in time, 1 at the farthest that tracked frames have
 * @property {Float32Array | null} look (C / 8 + 1,), what it looked like on the closest conditioning frame
 */

/**
 * @typedef {object} Prediction what is predicted of one object
 * @property {Float32Array} mask low-res logits (4h, 4w)
 * @property {number} iouScore
 * @property {number} objectScoreLogit
 * @property {Float32Array} pointer (C,)
 */

/**
 * @typedef {object} TrackingConfig
 * @property {number} num_maskmem
 * @property {number} max_object_pointers_in_encoder
 * @property {number} max_cond_frame_num
 * @property {boolean} multimask_output_in_sam
 * @property {boolean} multimask_output_for_tracking
 * @property {number} multimask_min_pt_num
 * @property {number} multimask_max_pt_num
 */

export {};
