/** node tests/web/page_files.js JOB.json: does each task of a job with modules of the page, and prints what comes. */
import { readFile, writeFile } from "node:fs/promises";
import { compressRuns, decompressRuns } from "../../edgetam_hf/web/page/coco_runs.js";
import { exportFile } from "../../edgetam_hf/web/page/exports.js";
import { fileNameOf, objectFileNames, stemOf } from "../../edgetam_hf/web/page/file_names.js";
import { readProject, saveProject } from "../../edgetam_hf/web/page/project_file.js";
import { areaOf, boxOf, decodeRuns, encodeRuns, isOnMask } from "../../edgetam_hf/web/page/runs.js";
import { zip } from "../../edgetam_hf/web/page/zip.js";
import { readDescribed } from "./page_project.js";

const LIKELY_VALUES = [null, true, -1, 0.5, 1, 2, 1e10, "", "x", [], {}, [0], [1, 2, 3, 4], { id: 1 }];

const ACTIONS = {
  runs, partsOf, decompress, names, export: writeExport, stop, save, resave, mutate, truncate, readLarge, manyFiles,
};

/** What is known of a mask whose pixels are given. */
async function runs({ pixels, size }) {
  const found = encodeRuns(pixels, size);
  const isOn = Array.from(pixels, (_, i) => isOnMask(found, (i % size.width) + 0.5, Math.floor(i / size.width), size));
  return {
    runs: [...found], text: compressRuns(found), area: areaOf(found), box: boxOf(found, size),
    decoded: [...decodeRuns(found, size)], isOn: isOn.map(Number),
    isOnBeside: [[-1, 0], [0, -1], [size.width, 0], [0, size.height]].map(([x, y]) => isOnMask(found, x, y, size)),
  };
}

/** Pixels and box of runs that were written by others. */
async function partsOf({ runs: given, size }) {
  const found = Uint32Array.from(given);
  return { decoded: [...decodeRuns(found, size)], box: boxOf(found, size), area: areaOf(found) };
}

async function decompress({ texts, size }) {
  return texts.map((text) => {
    try {
      return [...decompressRuns(text, size, "a mask")];
    } catch (error) {
      return error.message;
    }
  });
}

async function names({ names: given }) {
  const objects = given.map((name, idx) => ({ id: idx + 1, name }));
  return {
    files: given.map((name) => fileNameOf(name, "object")), stems: given.map(stemOf),
    objects: [...objectFileNames(objects).values()],
  };
}

/** Writes the file of an export, and gives its name. */
async function writeExport({ kind, project, path }) {
  const progress = [];
  const onProgress = (done, total) => progress.push([done, total]);
  const { name, blob } = await exportFile(kind, readDescribed(project), null, onProgress, new AbortController().signal);
  await writeFile(path, new Uint8Array(await blob.arrayBuffer()));
  return { name, type: blob.type, progress };
}

/** The name of the error with which an export ends that is stopped. */
async function stop({ kind, project }) {
  const controller = new AbortController();
  const onProgress = () => controller.abort();
  const exported = exportFile(kind, readDescribed(project), null, onProgress, controller.signal);
  return exported.then(() => null, (error) => error.name);
}

async function save({ project, path }) {
  await writeFile(path, await saveProject(readDescribed(project)).text());
  return true;
}

/** Whether a project file is read and saved again as the same bytes. */
async function resave({ path }) {
  const bytes = await readFile(path);
  const again = await saveProject(await readProject(new Blob([bytes]))).arrayBuffer();
  return Buffer.compare(bytes, Buffer.from(again)) === 0;
}

/** Reads a project with every value replaced by others: what is read is all that is written, or there is an Error. */
async function mutate({ path }) {
  const file = JSON.parse(await readFile(path, "utf8"));
  const counts = { read: 0, rejected: 0, wrong: [] };
  for (const place of placesOf(file)) {
    for (const value of [undefined, ...LIKELY_VALUES]) {
      const changed = structuredClone(file);
      const parent = place.slice(0, -1).reduce((found, key) => found[key], changed);
      const key = place.at(-1);
      if (value !== undefined) parent[key] = value;
      else if (Array.isArray(parent)) parent.splice(key, 1);
      else delete parent[key];
      await count(counts, JSON.stringify(changed), `${place.join(".")} = ${JSON.stringify(value)}`);
    }
  }
  return counts;
}

async function truncate({ path }) {
  const text = await readFile(path, "utf8");
  const counts = { read: 0, rejected: 0, wrong: [] };
  for (let length = 0; length < text.trimEnd().length; length++) await count(counts, text.slice(0, length), length);
  return counts;
}

/** Reads what says that it is too large. */
async function readLarge({ size }) {
  return readProject({ size });
}

async function count(counts, text, description) {
  try {
    const saved = await saveProject(await readProject(new Blob([text]))).text();
    counts.read++;
    if (!isSame(JSON.parse(saved), JSON.parse(text))) counts.wrong.push(`${description}: read as something else`);
  } catch (error) {
    counts.rejected++;
    const isSentence = /^(This is no project|The project (is damaged|was saved))/.test(error.message);
    if (error.constructor !== Error || !isSentence) counts.wrong.push(`${description}: ${error}`);
  }
}

function isSame(one, other) {
  if (typeof one !== "object" || one === null || other === null) return Object.is(one, other);
  const keys = Object.keys(one);
  return keys.length === Object.keys(other).length && keys.every((key) => isSame(one[key], other[key]));
}

function* placesOf(value, place = []) {
  for (const [key, item] of Object.entries(value)) {
    yield [...place, key];
    if (typeof item === "object" && item !== null) yield* placesOf(item, [...place, key]);
  }
}

async function manyFiles({ number, path }) {
  async function* entries() {
    for (let i = 0; i < number; i++) yield { name: `${i}.txt`, bytes: new TextEncoder().encode(String(i)) };
  }
  await writeFile(path, new Uint8Array(await (await zip(entries())).arrayBuffer()));
  return true;
}

const answers = [];
for (const { action, ...task } of JSON.parse(await readFile(process.argv[2], "utf8"))) {
  answers.push(await ACTIONS[action](task).catch((error) => ({ error: error.message })));
}
process.stdout.write(JSON.stringify(answers));
