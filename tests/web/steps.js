/** Runs what a test asks of models, in Node and in browsers alike; all that is found comes back as JSON. */

/**
 * What is found for each task, or as `error` why nothing is.
 *
 * @param {(folder: string) => Promise<any>} load gives the model of a folder
 * @param {any[]} tasks each with its `folder`, and the file `pixels` of its frames, RGB, of `size`, one after the other
 * @param {(path: string) => Promise<Uint8Array>} read
 */
export async function run(load, tasks, read) {
  const models = new Map();
  const found = [];
  for (const task of tasks) {
    try {
      if (!models.has(task.folder)) models.set(task.folder, await load(task.folder));
      const frames = cut(await read(task.pixels), task.size);
      const started = performance.now();
      const outputs = await (task.prompts ? runPicture : runSession)(models.get(task.folder), frames, task);
      found.push({ outputs, milliseconds: performance.now() - started });
    } catch (error) {
      found.push({ error: `${error.name}: ${error.message}` });
    }
  }
  return found;
}

function cut(bytes, { width, height }) {
  const length = width * height * 3;
  return (idx) => ({ data: bytes.subarray(idx * length, (idx + 1) * length), width, height });
}

/** Masks of each set of prompts on a picture. */
async function runPicture(model, frameAt, { prompts }) {
  const picture = await model.encode(frameAt(0));
  const found = [];
  for (const given of prompts) found.push((await picture.prompt(given)).map((masks) => masks.map(describeMask)));
  return found;
}

/** All outputs of a session, step by step; of a step that fails, its error. */
async function runSession(model, frameAt, { size, numFrames, isStream, settings, steps }) {
  const session = await model.startSession({ ...size, ...(isStream ? {} : { numFrames, frameAt }), ...settings });
  const outputs = [];
  const note = ({ frameIdx, masks }) => {
    outputs.push({ frameIdx, masks: [...masks].map(([id, mask]) => [id, describeMask(mask)]) });
  };
  const calls = {
    add: (frameIdx, ids, prompts) => session.addPrompts(frameIdx, ids, prompts),
    clear: (frameIdx, id) => session.clearPrompts(frameIdx, id),
    remove: (id) => session.removeObject(id),
    reset: () => session.reset(),
    segment: async (frameIdx, options) => note(await session.segment(frameIdx, options)),
    receive: async (idx) => note(await session.receive(frameAt(idx))),
    propagate: async (options) => {
      for await (const output of session.propagate(options)) note(output);
    },
  };
  for (const [name, ...values] of steps) {
    await calls[name](...values).catch((error) => outputs.push({ error: `${error.name}: ${error.message}` }));
  }
  return outputs;
}

/** The pixels of a `FoundMask` as bits in base64, and its scores. */
export function describeMask({ pixels, iouScore, objectScoreLogit }) {
  const bits = new Uint8Array(Math.ceil(pixels.length / 8));
  pixels.forEach((value, i) => (bits[i >> 3] |= value << (i & 7)));
  return { pixels: btoa(String.fromCharCode(...bits)), iouScore, objectScoreLogit };
}
