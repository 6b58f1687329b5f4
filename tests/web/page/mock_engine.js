/**
 * An engine for tests of the page, in place of a server: it finds discs around clicks, boxes as they are, and moves
 * what it found a pixel to the right with each frame. `window.mock` has its calls, and says what is to fail.
 */
import { UncertainError } from "/page/engine.js";
import { decodeRuns, encodeRuns } from "/page/runs.js";

const mock = {
  calls: [], fail: {}, wait: null, numFrames: 40, numFramesAfterStop: 0, size: { width: 320, height: 240 },
  lost: {}, // by the id of an object the frame from which on it is seen no more
};
window.mock = mock;

const DISCS = [[90, 120, 30, "#d8b25c"], [210, 90, 24, "#b5653a"], [180, 180, 20, "#e8e2d0"]];

/** Does as if it worked: notes the call, waits if the test says so, and fails if it has to. */
async function work(name, ...details) {
  mock.calls.push([name, ...details]);
  await new Promise((resolve) => setTimeout(resolve));
  if (mock.wait?.[name]) await mock.wait[name];
  const sentence = mock.fail[name];
  if (sentence) {
    delete mock.fail[name];
    throw new (mock.isUncertain ? UncertainError : Error)(sentence);
  }
}

/** Runs of what a prompt means, moved to the right. */
function maskOf({ points, labels, box, mask }, moved, radius = 30) {
  const { width, height } = mock.size;
  if (mask) {
    const still = decodeRuns(mask, mock.size);
    const isThere = (i) => i % width >= moved && i % width - moved < width;
    return encodeRuns(still.map((_, i) => (isThere(i) ? still[i - moved] : 0)), mock.size);
  }
  const pixels = new Uint8Array(width * height);
  const isNear = (x, y, label) => points.some(([px, py], i) => (
    labels[i] === label && Math.hypot(px + moved - x, py - y) < (label ? radius : radius / 2)
  ));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const isInBox = box && x >= box[0] + moved && x < box[2] + moved && y >= box[1] && y < box[3];
      if ((isInBox || isNear(x, y, 1)) && !isNear(x, y, 0)) pixels[y * width + x] = 1;
    }
  }
  return encodeRuns(pixels, mock.size);
}

function joined(prompts) {
  return {
    points: prompts.flatMap((prompt) => prompt.points),
    labels: prompts.flatMap((prompt) => prompt.labels),
    box: prompts.findLast((prompt) => prompt.box)?.box ?? null,
    mask: prompts.findLast((prompt) => prompt.mask)?.mask ?? null,
  };
}

export class ServerEngine {
  description = "mock on cpu";
  #said = new Map();
  #numLive = 0;

  static async start(settings) {
    await work("start");
    mock.settings = settings;
    return new ServerEngine();
  }

  async open(file, onProgress) {
    await work("open", file?.name ?? null);
    onProgress?.(1, 2);
    this.#said.clear();
    const name = file?.name ?? "begun.mp4";
    if (file && !/^(image|video)\//.test(file.type)) throw new Error(`${name} is no picture and no video.`);
    const isVideo = /\.(mp4|webm)$/.test(name);
    this.isVideo = isVideo;
    this.picture = file && !isVideo ? await createImageBitmap(file) : null;
    if (this.picture) mock.size = { width: this.picture.width, height: this.picture.height };
    const numFrames = isVideo ? mock.numFrames : 1;
    return { kind: isVideo ? "video" : "picture", name, ...mock.size, numFrames, frameRate: 25, hasSound: isVideo };
  }

  async frame(frameIdx) {
    await work("frame", frameIdx);
    if (this.picture) return createImageBitmap(this.picture);
    const { width, height } = mock.size;
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d");
    const sky = context.createLinearGradient(0, 0, width, height);
    sky.addColorStop(0, "#8fb3cf");
    sky.addColorStop(1, "#4d5f50");
    context.fillStyle = sky;
    context.fillRect(0, 0, width, height);
    for (const [x, y, radius, colour] of DISCS) {
      context.beginPath();
      context.arc(x + frameIdx, y, radius, 0, 7);
      context.fillStyle = colour;
      context.fill();
    }
    return createImageBitmap(canvas);
  }

  async segment(prompt, isMultimask) {
    await work("segment", { ...prompt, mask: prompt.mask && [...prompt.mask] }, isMultimask);
    const sizes = isMultimask ? [30, 45, 15] : [30];
    return sizes.map((radius, i) => (
      { objectId: 0, runs: maskOf(prompt, 0, radius), iouScore: 0.95 - 0.1 * i, isPresent: true }
    ));
  }

  async everything(options, onProgress, signal) {
    await work("everything", options);
    onProgress(1, 2);
    if (signal.aborted) return [];
    const { frameIdx } = options;
    return [[90, 120, 30], [90, 120, 12], [210, 90, 24]].map(([x, y, radius], i) => ({
      objectId: i + 1, runs: maskOf({ points: [[x, y]], labels: [1] }, frameIdx, radius), iouScore: 0.9, isPresent: true,
    }));
  }

  async addPrompt(frameIdx, objectId, prompt) {
    await work("addPrompt", frameIdx, objectId, { ...prompt, mask: prompt.mask && [...prompt.mask] });
    const key = `${objectId}`;
    const frames = this.#said.get(key) ?? new Map();
    this.#said.set(key, frames);
    frames.set(frameIdx, prompt.mask ? [prompt] : [...(frames.get(frameIdx) ?? []), prompt]);
    return this.#find(frameIdx, [objectId]);
  }

  async addMasks(frameIdx, masks) {
    await work("addMasks", frameIdx, [...masks.keys()]);
    for (const [objectId, mask] of masks) {
      this.#said.set(`${objectId}`, new Map([[frameIdx, [{ points: [], labels: [], box: null, mask }]]]));
    }
    return this.#find(frameIdx, [...this.#said.keys()].map(Number));
  }

  async clearPrompts(frameIdx, objectId) {
    await work("clearPrompts", frameIdx, objectId);
    this.#said.get(`${objectId}`)?.delete(frameIdx);
    return { frameIdx, objects: [] };
  }

  async removeObject(objectId) {
    await work("removeObject", objectId);
    this.#said.delete(`${objectId}`);
  }

  async propagate({ start, count, isReverse }, onFrame, signal) {
    await work("propagate", { start, count, isReverse });
    const end = count === null ? (isReverse ? -1 : mock.numFrames) : start + (isReverse ? -1 - count : 1 + count);
    for (let frameIdx = start; frameIdx !== end; frameIdx += isReverse ? -1 : 1) {
      if (signal.aborted && mock.numFramesAfterStop-- === 0) return;
      onFrame(this.#find(frameIdx, [...this.#said.keys()].map(Number)));
      await new Promise((resolve) => setTimeout(resolve));
      if (mock.wait?.[`frame ${frameIdx}`]) await mock.wait[`frame ${frameIdx}`];
    }
  }

  async reset() {
    await work("reset");
    this.#said.clear();
  }

  async startLive(width, height) {
    await work("startLive", width, height);
    this.#said.clear();
    this.#numLive = 0;
    mock.size = { width, height };
    return { kind: "live", name: "Camera", width, height, numFrames: 0, frameRate: 0, hasSound: false };
  }

  async receive(frame) {
    await work("receive");
    frame.close();
    return this.#find(this.#numLive++, [...this.#said.keys()].map(Number));
  }

  async overlay() {
    await work("overlay");
    return new Blob(["film"], { type: "video/mp4" });
  }

  async close() {}

  #find(frameIdx, ids) {
    const objects = ids.map((objectId) => {
      const frames = [...this.#said.get(`${objectId}`)];
      const near = frames.sort(([one], [other]) => Math.abs(one - frameIdx) - Math.abs(other - frameIdx))[0];
      const empty = Uint32Array.of(mock.size.width * mock.size.height);
      const isLost = frameIdx >= (mock.lost[objectId] ?? Infinity);
      const runs = near && !isLost ? maskOf(joined(near[1]), frameIdx - near[0]) : empty;
      const distance = near ? Math.abs(near[0] - frameIdx) : 99;
      const wobble = 0.05 * Math.sin(frameIdx / 2 + objectId);
      return { objectId, runs, iouScore: Math.max(0.2, 0.95 - 0.012 * distance + wobble), isPresent: distance < 30 };
    });
    return { frameIdx, objects };
  }
}
