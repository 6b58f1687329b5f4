/** node tests/web/node.js JOB.json: what `steps.js` finds for each task of a job, as JSON. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { EdgeTam } from "../../edgetam_hf/web/edgetam.js";
import { run } from "./steps.js";

const { modules, tasks, device, dtype, numRuns } = JSON.parse(await readFile(process.argv[2], "utf8"));
const runtime = await import(pathToFileURL(join(modules, "onnxruntime-web/dist/ort.node.min.mjs")).href);
runtime.env.wasm.numThreads = 1;
const ort = device === "webgpu" ? withFailingGpu(runtime, numRuns) : runtime;
const read = async (path) => new Uint8Array(await readFile(path));
const load = (folder) => EdgeTam.load(folder, { ort, device, dtype, read: (path) => read(join(folder, path)) });
console.log(JSON.stringify(await run(load, tasks, read)));

/** ONNX Runtime with what seems to be a GPU, which fails after so many runs. */
function withFailingGpu({ InferenceSession, ...others }, numLeft) {
  const gpu = { requestAdapter: async () => ({}) };
  Object.defineProperty(globalThis, "navigator", { value: { gpu }, configurable: true });
  const create = async (bytes, { executionProviders, ...options }) => {
    const session = await InferenceSession.create(bytes, options);
    if (executionProviders[0] !== "webgpu") return session;
    return {
      run: async (feeds) => {
        if (numLeft-- === 0) throw new Error("the GPU is gone");
        if (numLeft < 0) throw new Error("nothing runs on a GPU that is gone");
        return session.run(feeds);
      },
    };
  };
  return { ...others, InferenceSession: { create } };
}
