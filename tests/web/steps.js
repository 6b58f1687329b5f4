/** Runs what a test asks of a model, in Node and in browsers alike; all that is found comes back as JSON. */

/**
 * Pixels of a test: frames that lie one after the other, RGB.
 *
 * @param {Uint8Array} bytes
 * @param {{ width: number, height: number }} size
 * @param {number} idx
 */
export function frameOf(bytes, { width, height }, idx) {
  const length = width * height * 3;
  return { data: bytes.subarray(idx * length, (idx + 1) * length), width, height };
}

/** Whether a `FoundMask` has each pixel, in base64, and its scores. */
function describeMask(mask) {
  const bits = new Uint8Array(Math.ceil(mask.pixels.length / 8));
  mask.pixels.forEach((value, i) => (bits[i >> 3] |= value << (i & 7)));
  let text = "";
  for (const byte of bits) text += String.fromCharCode(byte);
  return { pixels: btoa(text), iouScore: mask.iouScore, objectScoreLogit: mask.objectScoreLogit };
}

function describeOutput({ frameIdx, masks }) {
  return { frameIdx, masks: [...masks].map(([id, mask]) => [id, describeMask(mask)]) };
}

/** Masks of each set of prompts on a picture. */
export async function runPicture(model, frame, prompts) {
  const picture = await model.encode(frame);
  const found = [];
  for (const given of prompts) found.push((await picture.prompt(given)).map((masks) => masks.map(describeMask)));
  return found;
}

/** All outputs of a session, step by step. */
export async function runSession(model, bytes, { size, numFrames, isStream, settings, steps }) {
  const video = { ...size, numFrames, frameAt: (idx) => frameOf(bytes, size, idx) };
  const session = await model.startSession({ ...(isStream ? size : video), ...settings });
  const outputs = [];
  const calls = {
    add: (frameIdx, ids, prompts) => session.addPrompts(frameIdx, ids, prompts),
    clear: (frameIdx, id) => session.clearPrompts(frameIdx, id),
    remove: (id) => session.removeObject(id),
    segment: async (frameIdx, options) => outputs.push(describeOutput(await session.segment(frameIdx, options))),
    receive: async (idx) => outputs.push(describeOutput(await session.receive(frameOf(bytes, size, idx)))),
    propagate: async (options) => {
      for await (const output of session.propagate(options)) outputs.push(describeOutput(output));
    },
  };
  for (const [name, ...values] of steps) await calls[name](...values);
  return outputs;
}
