/** node tests/web/node.js JOB.json: what `steps.js` finds for each task of a job, as JSON. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { EdgeTam } from "../../edgetam_hf/web/edgetam.js";
import { run } from "./steps.js";

const job = JSON.parse(await readFile(process.argv[2], "utf8"));
const ort = await import(pathToFileURL(join(job.modules, "onnxruntime-web/dist/ort.node.min.mjs")).href);
ort.env.wasm.numThreads = 1;
const read = async (path) => new Uint8Array(await readFile(path));
const load = (folder) => EdgeTam.load(folder, { ort, device: "wasm", read: (path) => read(join(folder, path)) });
console.log(JSON.stringify(await run(load, job.tasks, read)));
