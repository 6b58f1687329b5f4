/** Runs steps on an engine of the page, in a page without one; all that is found comes back as JSON. */
const prompt = ({ points = [], labels = points.map(() => 1), box = null, mask = null }) => {
  return { points, labels, box, mask: mask && Uint32Array.from(mask) };
};
const plain = (found) => found.map(({ runs, ...facts }) => ({ ...facts, runs: [...runs] }));
const plainFrame = ({ frameIdx, objects }) => ({ frameIdx, objects: plain(objects) });
/** @type {import("../../edgetam_hf/web/page/engine.js").Engine} */
let engine;

/** Starts the engine of settings, which later steps use; the page's files are below an address. */
export async function start(settings, root) {
  const { startEngine } = await import(`${root}page/engine.js`);
  engine = await startEngine(settings);
  return engine.description;
}

/** What each of the steps gives, or why it fails. */
export async function run(steps) {
  const outputs = [];
  for (const [name, ...values] of steps) {
    const started = performance.now();
    try {
      const found = await calls[name](...values);
      outputs.push({ found, milliseconds: performance.now() - started });
    } catch (error) {
      outputs.push({ error: error.message });
    }
  }
  return outputs;
}

const calls = {
  open: (base64, name, type) => engine.open(base64 === null ? null : new File([bytesOf(base64)], name, { type })),
  segment: async (said, isMultimask) => plain(await engine.segment(prompt(said), isMultimask)),
  everything: async (pointsPerSide, mostPoints = Infinity) => {
    const stop = new AbortController();
    let progress;
    const onProgress = (done, total) => {
      progress = [done, total];
      if (done >= mostPoints) stop.abort();
    };
    return { objects: plain(await engine.everything({ pointsPerSide, frameIdx: 0 }, onProgress, stop.signal)), progress };
  },
  add: async (frameIdx, objectId, said) => plainFrame(await engine.addPrompt(frameIdx, objectId, prompt(said))),
  clear: async (frameIdx, objectId) => plainFrame(await engine.clearPrompts(frameIdx, objectId)),
  remove: (objectId) => engine.removeObject(objectId),
  reset: () => engine.reset(),
  propagate: async (range, mostFrames = Infinity) => {
    const stop = new AbortController();
    const frames = [];
    const onFrame = (found) => {
      if (frames.push(plainFrame(found)) >= mostFrames) stop.abort();
    };
    await engine.propagate({ count: null, isReverse: false, ...range }, onFrame, stop.signal);
    return frames;
  },
  live: (width, height) => engine.startLive(width, height),
  receive: async (base64, width) => {
    const rgba = new Uint8ClampedArray(bytesOf(base64));
    return plainFrame(await engine.receive(await createImageBitmap(new ImageData(rgba, width))));
  },
  frame: async (frameIdx) => {
    const bitmap = await engine.frame(frameIdx);
    const { width, height } = bitmap;
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    return { width, height, rgba: base64Of(new Uint8Array(context.getImageData(0, 0, width, height).data.buffer)) };
  },
  overlay: async (colours, found) => {
    const objects = colours.map(([objectId, colour]) => ({ objectId, colour }));
    const byFrame = new Map(found.map(({ frameIdx, objects }) => [frameIdx, objects]));
    const on = (frameIdx) => (byFrame.get(frameIdx) ?? []).map(({ runs, ...facts }) => ({ ...facts, runs: Uint32Array.from(runs) }));
    const progress = [];
    const results = { objects, frames: [...byFrame.keys()], on };
    const film = await engine.overlay(results, (...done) => progress.push(done), new AbortController().signal);
    return { type: film.type, film: base64Of(new Uint8Array(await film.arrayBuffer())), progress };
  },
  close: () => engine.close(),
};

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

function base64Of(bytes) {
  let text = "";
  for (let start = 0; start < bytes.length; start += 8192) {
    text += String.fromCharCode(...bytes.subarray(start, start + 8192));
  }
  return btoa(text);
}
