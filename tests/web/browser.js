/** The twin of `node.js` in a browser: `runTasks` of a page that `browser.py` serves. */
import { EdgeTam } from "/web/edgetam.js";
import { describeMask, run } from "/tests/steps.js";

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

/** What is found in a picture on WebGPU, and again after the GPU was lost. */
export async function loseGpu({ folder, pixels, size, prompts }) {
  const ort = await loadOrt("webgpu");
  const model = await EdgeTam.load(`/files${folder}`, { ort, device: "webgpu" });
  const picture = await model.encode({ data: await read(pixels), ...size });
  const devices = [];
  const outputs = [];
  for (let round = 0; round < 2; round++) {
    outputs.push((await picture.prompt(prompts[0])).map((masks) => masks.map(describeMask)));
    devices.push(model.device);
    const gpu = await ort.env.webgpu.device;
    gpu.destroy();
    await gpu.lost;
  }
  return { devices, deviceError: String(model.deviceError), outputs };
}
