/** The twin of `node.js` in a browser: `runTasks` of a page that `browser.py` serves. */
import { EdgeTam } from "/web/edgetam.js";
import { run } from "/tests/steps.js";

const read = async (path) => new Uint8Array(await (await fetch(`/files${path}`)).arrayBuffer());

/** What `steps.js` finds for tasks. */
export async function runTasks(tasks, device) {
  const ort = await loadOrt(device);
  return run((folder) => EdgeTam.load(`/files${folder}`, { ort, device }), tasks, read);
}

/** ONNX Runtime, with WebGPU where it is asked for. */
export async function loadOrt(device) {
  const ort = await import(device === "webgpu" ? "/ort/ort.webgpu.min.mjs" : "/ort/ort.wasm.min.mjs");
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = "/ort/";
  return ort;
}
