/** The folder of an exported model: what it says of itself, checked. */

/** @typedef {import("./types.js").Size} Size */
/** @typedef {import("./types.js").TrackingConfig} TrackingConfig */
/** @typedef {(path: string) => Promise<Uint8Array>} ReadFile bytes of a file of the folder */

/**
 * @typedef {object} Preparation how a picture becomes the model input
 * @property {Size} size
 * @property {number[]} mean of each channel
 * @property {number[]} std
 * @property {number} rescaleFactor from levels to the numbers that mean and std are given in
 */

/**
 * @typedef {object} Description
 * @property {Size} imageSize of the model input
 * @property {Size} maskSize of low-res masks
 * @property {number} numChannels C
 * @property {number} numLatents K, 0 of a model for pictures only
 * @property {number} numMemoryChannels m, 0 of a model for pictures only
 * @property {TrackingConfig | null} tracking `null` of a model for pictures only
 * @property {Preparation} preparation
 */

export const FORMAT_VERSION = 1;

/**
 * A function that reads files below an address.
 *
 * @param {string | URL} folder
 * @returns {ReadFile}
 */
export function fetchFrom(folder) {
  const address = String(folder).replace(/\/*$/, "/");
  return async (path) => {
    const fail = (/** @type {string} */ reason) => {
      throw new Error(`${address}${path} cannot be fetched: ${reason}`);
    };
    const response = await fetch(address + path).catch((error) => {
      return fail(`${error.message}; outside browsers give a function as read`);
    });
    if (!response.ok) fail(`${response.status} ${response.statusText}`);
    return new Uint8Array(await response.arrayBuffer());
  };
}

/**
 * What config.json and preprocessor_config.json say; throws an Error for a folder that this version cannot use.
 *
 * @param {ReadFile} read
 * @returns {Promise<Description>}
 */
export async function readDescription(read) {
  const facts = (await readJson(read, "config.json")).edgetam_export;
  if (!facts) throw new Error("config.json has no edgetam_export: give the folder that `edgetam export` has written");
  if (facts.version !== FORMAT_VERSION) {
    throw new Error(
      `the folder has graphs of version ${facts.version}, and edgetam.js reads version ${FORMAT_VERSION}: export the ` +
        "model again, or take the edgetam.js that belongs to it",
    );
  }
  const imageSize = sizeOf(facts.image_size);
  return {
    imageSize,
    maskSize: sizeOf(facts.mask_size),
    numChannels: facts.num_channels,
    numLatents: facts.num_latents ?? 0,
    numMemoryChannels: facts.num_memory_channels ?? 0,
    tracking: facts.tracking ?? null,
    preparation: await readPreparation(read, imageSize),
  };
}

/**
 * @param {ReadFile} read
 * @param {Size} imageSize
 * @returns {Promise<Preparation>}
 */
async function readPreparation(read, imageSize) {
  const settings = await readJson(read, "preprocessor_config.json");
  const { width, height } = settings.size;
  if (width !== imageSize.width || height !== imageSize.height) {
    throw new Error(
      `preprocessor_config.json makes pictures of ${width} x ${height}, and the graphs take ${imageSize.width} x ` +
        `${imageSize.height}: export the model again`,
    );
  }
  const { image_mean: mean, image_std: std, rescale_factor: rescaleFactor } = settings;
  return { size: imageSize, mean, std, rescaleFactor };
}

/**
 * @param {ReadFile} read
 * @param {string} path
 * @returns {Promise<any>}
 */
async function readJson(read, path) {
  const text = new TextDecoder().decode(await read(path));
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${path} is no JSON, is it complete? ${error}`);
  }
}

/**
 * @param {number[]} heightAndWidth
 * @returns {Size}
 */
function sizeOf([height, width]) {
  return { width, height };
}
