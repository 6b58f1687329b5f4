/** node tests/web/errors.js JOB.json: what each wrong use says, as JSON by name. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { EdgeTam } from "../../edgetam_hf/web/edgetam.js";

const { modules, folder } = JSON.parse(await readFile(process.argv[2], "utf8"));
const ort = await import(pathToFileURL(join(modules, "onnxruntime-web/dist/ort.node.min.mjs")).href);
ort.env.wasm.numThreads = 1;
const read = async (path) => new Uint8Array(await readFile(join(folder, path)));
const load = (options = {}) => EdgeTam.load(folder, { ort, device: "wasm", read, ...options });
/** Reads config.json with other facts of the export. */
const withFacts = (change) => async (path) => {
  const bytes = await read(path);
  if (path !== "config.json") return bytes;
  const config = JSON.parse(new TextDecoder().decode(bytes));
  change(config);
  return new TextEncoder().encode(JSON.stringify(config));
};
const without = (missing) => async (path) => {
  if (path === missing) throw new Error(`${path} is not there`);
  return read(path);
};
const truncated = async (path) => (path.endsWith(".onnx") ? (await read(path)).slice(0, 100_000) : read(path));

const model = await load();
const size = { width: 40, height: 30 };
const frame = { data: new Uint8Array(40 * 30 * 3), ...size };
const picture = await model.encode(frame);
const video = { ...size, numFrames: 3, frameAt: () => frame };
const click = { points: [[[5, 5]]] };

/** A session with an object on frame 0. */
async function started(options = video) {
  const session = await model.startSession(options);
  if (options === video) await session.addPrompts(0, 1, click);
  return session;
}

const cases = {
  "no ort": () => load({ ort: undefined }),
  "a wrong dtype": () => load({ dtype: "int4" }),
  "a wrong device": () => load({ device: "cuda" }),
  "no export": () => load({ read: withFacts((config) => delete config.edgetam_export) }),
  "another version": () => load({ read: withFacts((config) => (config.edgetam_export.version = 2)) }),
  "another size": () => load({ read: withFacts((config) => (config.edgetam_export.image_size = [64, 64])) }),
  "a folder without an address": () => load({ read: undefined }),
  "a missing graph": () => load({ read: without("onnx/object_decoder.onnx") }),
  "a truncated graph": () => load({ read: truncated }),
  "a truncated config": () => load({ read: async (path) => (await read(path)).slice(0, 50) }),
  "pictures only": async () => {
    const pictures = await load({ read: withFacts((config) => delete config.edgetam_export.tracking) });
    await pictures.startSession();
  },
  "no frame": () => model.encode(null),
  "a stream of media": () => model.encode({}),
  "grey levels": () => model.encode({ data: new Uint8Array(1200), ...size }),
  "floats": () => model.encode({ data: new Float32Array(3600), ...size }),
  "an unknown memory": () => model.startSession({ ...video, memorySelection: "last" }),
  "a memory of too many frames": () => model.startSession({ ...video, memorySelection: { numSearched: 1001 } }),
  "an unsure memory": () => model.startSession({ ...video, memorySelection: { leastIou: 2 } }),
  "a look of too much weight": () => model.startSession({ ...video, memorySelection: { lookWeight: 1001 } }),
  "a look that takes doubt away": () => model.startSession({ ...video, memorySelection: { lookWeight: -1 } }),
  "a look of no weight": () => model.startSession({ ...video, memorySelection: { lookWeight: NaN } }),
  "a look of a weight in words": () => model.startSession({ ...video, memorySelection: { lookWeight: "2" } }),
  "no prompt": () => picture.prompt({}),
  "unequal counts": () => picture.prompt({ points: [[[5, 5]]], boxes: [[1, 1, 9, 9], [2, 2, 8, 8]] }),
  "a box inside out": () => picture.prompt({ boxes: [[9, 9, 1, 1]] }),
  "a point of one number": () => picture.prompt({ points: [[[5]]] }),
  "a point that is no number": () => picture.prompt({ points: [[[5, NaN]]] }),
  "points of one object, not nested": () => picture.prompt({ points: [[5, 5]] }),
  "a label too many": () => picture.prompt({ points: [[[5, 5]]], labels: [[1, 1]] }),
  "an unknown label": () => picture.prompt({ points: [[[5, 5]]], labels: [[4]] }),
  "labels alone": () => picture.prompt({ labels: [[1]], boxes: [[1, 1, 9, 9]] }),
  "logits of another size": () => picture.prompt({ masks: [new Float32Array(9)] }),
  "a video without frames": () => model.startSession({ numFrames: 3 }),
  "a video of unknown size": () => model.startSession({ numFrames: 3, frameAt: () => frame }),
  "no memory": () => model.startSession({ ...video, maxMemoryFrames: 0 }),
  "a frame outside": async () => (await started()).segment(3),
  "half a frame": async () => (await started()).segment(0.5),
  "an object twice": async () => (await started()).addPrompts(0, [1, 1], { points: [[[5, 5]], [[6, 6]]] }),
  "an id that is no number": async () => (await started()).addPrompts(0, "one", click),
  "a prompt too few": async () => (await started()).addPrompts(0, [1, 2], click),
  "two kinds": async () => (await started()).addPrompts(0, 1, { ...click, masks: [new Uint8Array(1200)] }),
  "a mask of another size": async () => (await started()).addPrompts(0, 1, { masks: [new Uint8Array(9)] }),
  "an unknown object": async () => (await started()).removeObject(5),
  "a prompt that is not there": async () => (await started()).clearPrompts(1, 1),
  "nothing to track": async () => (await (await model.startSession(video)).propagate().next()),
  "a frame of another size": async () => {
    const session = await started({ ...video, frameAt: () => ({ data: new Uint8Array(12), width: 2, height: 2 }) });
    await session.addPrompts(0, 1, click);
    await session.segment(0);
  },
  "a stream to propagate in": async () => (await (await started(size)).propagate().next()),
  "a frame of a video to receive": async () => (await started()).receive(frame),
  "a frame that is gone": async () => {
    const stream = await started(size);
    await stream.receive(frame);
    await stream.receive(frame);
    await stream.addPrompts(0, 1, click);
  },
  "a frame left out": async () => {
    const stream = await started(size);
    await stream.addPrompts(1, 1, click);
    await stream.receive(frame, 2);
  },
  "a stream of unknown size": async () => (await started({})).addPrompts(0, 1, click),
};

const said = {};
for (const [name, use] of Object.entries(cases)) {
  said[name] = await use().then(() => null, (error) => `${error.name}: ${error.message}`);
}
console.log(JSON.stringify(said));
