/**
 * A page to try a model: a picture or a video, clicks and boxes, and masks.
 *
 * The query of its address says where the model and ONNX Runtime are: `?model=models/edgetam&ort=node_modules/
 * onnxruntime-web/dist`, and may choose `device` and `dtype`. Nothing is fetched from anywhere else.
 */
import { EdgeTam } from "./edgetam.js";
import { openPicture, openVideo } from "./scenes.js";

/** @typedef {import("./scenes.js").Scene} Scene */
/** @typedef {import("./scenes.js").ObjectPrompt} ObjectPrompt */

const COLOURS = [[10, 160, 110], [225, 87, 60], [70, 110, 230], [235, 170, 20], [170, 80, 200], [0, 170, 200]];
const SMALLEST_BOX = 6; // pixels of the screen; less is a click

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
function element(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`the page has no ${type.name} with the id ${id}`);
  return found;
}

const canvas = element("canvas", HTMLCanvasElement);
const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
const time = element("time", HTMLInputElement);
const buttons = {
  add: element("add", HTMLButtonElement),
  remove: element("remove", HTMLButtonElement),
  play: element("play", HTMLButtonElement),
};

/** @type {EdgeTam} */
let model;
/** @type {Scene | null} */
let scene = null;
/** @type {Map<number, ObjectPrompt>} prompts of the frame that is shown */
let prompts = new Map();
let objectIds = [1];
let current = 1;
let isPlaying = false;
let pressed = { x: 0, y: 0 };

/** @param {string} text */
function say(text) {
  element("status", HTMLElement).textContent = text;
}

/**
 * Runs what may fail, and says why it did.
 *
 * @param {() => Promise<void>} task
 */
async function attempt(task) {
  try {
    await task();
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
  }
}

/** Shows the frame with the masks of its objects. */
async function draw() {
  if (!scene) return;
  context.drawImage(await scene.frame(), 0, 0);
  const shown = context.getImageData(0, 0, canvas.width, canvas.height);
  for (const [id, { pixels }] of scene.masks) {
    const colour = colourOf(id);
    for (let i = 0; i < pixels.length; i++) {
      if (!pixels[i]) continue;
      for (let channel = 0; channel < 3; channel++) {
        shown.data[4 * i + channel] = (shown.data[4 * i + channel] + colour[channel]) / 2;
      }
    }
  }
  context.putImageData(shown, 0, 0);
  for (const [id, { points, labels, box }] of prompts) {
    context.strokeStyle = `rgb(${colourOf(id)})`;
    context.lineWidth = 2;
    if (box) context.strokeRect(box[0], box[1], box[2] - box[0], box[3] - box[1]);
    points.forEach(([x, y], i) => drawPoint(x, y, labels[i] === 1));
  }
  time.value = String(scene.frameIdx);
}

/**
 * @param {number} x
 * @param {number} y
 * @param {boolean} isOnObject
 */
function drawPoint(x, y, isOnObject) {
  context.beginPath();
  context.arc(x, y, 5, 0, 2 * Math.PI);
  context.fillStyle = isOnObject ? "white" : "black";
  context.fill();
  context.stroke();
}

/** @param {number} id */
function colourOf(id) {
  return COLOURS[(id - 1) % COLOURS.length];
}

/** Shows which objects there are, and what can be done. */
function updateButtons() {
  buttons.add.disabled = buttons.remove.disabled = !scene || isPlaying;
  buttons.play.disabled = !scene?.canTrack || scene.masks.size === 0;
  buttons.play.textContent = isPlaying ? "Stop" : "Track";
  time.hidden = !scene?.canTrack;
  time.disabled = isPlaying;
  element("objects", HTMLUListElement).replaceChildren(...objectIds.map((id) => {
    const button = document.createElement("button");
    button.textContent = String(id);
    button.style.setProperty("--colour", `rgb(${colourOf(id)})`);
    button.setAttribute("aria-pressed", String(id === current));
    button.onclick = () => {
      current = id;
      updateButtons();
    };
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
}

/** @param {File} file */
async function open(file) {
  isPlaying = false;
  say(`Opening ${file.name} …`);
  scene = file.type.startsWith("video/") ? await openVideo(model, file) : await openPicture(model, file);
  canvas.width = scene.size.width;
  canvas.height = scene.size.height;
  time.max = String(scene.numFrames - 1);
  prompts = new Map();
  objectIds = [current = 1];
  await draw();
  updateButtons();
  say(`${file.name}, ${scene.size.width} x ${scene.size.height}, on ${model.device}`);
}

/**
 * Adds a click or a box of the chosen object.
 *
 * @param {(prompt: ObjectPrompt) => void} change
 */
async function prompt(change) {
  if (!scene || isPlaying) return;
  const given = prompts.get(current) ?? { points: [], labels: [], box: null };
  change(given);
  prompts.set(current, given);
  const started = performance.now();
  await scene.prompt(current, given);
  say(`${Math.round(performance.now() - started)} ms on ${model.device}`);
  await draw();
  updateButtons();
}

async function play() {
  isPlaying = !isPlaying;
  updateButtons();
  if (!isPlaying || !scene) return;
  prompts = new Map();
  try {
    let started = performance.now();
    for await (const frameIdx of scene.track()) {
      say(`frame ${frameIdx}, ${Math.round(performance.now() - started)} ms on ${model.device}`);
      await draw();
      if (!isPlaying) break;
      started = performance.now();
    }
  } finally {
    isPlaying = false;
    updateButtons();
  }
}

/**
 * Where the pointer is, in pixels of the picture.
 *
 * @param {PointerEvent} event
 */
function place({ clientX, clientY }) {
  const shown = canvas.getBoundingClientRect();
  const scale = canvas.width / shown.width;
  return { x: (clientX - shown.left) * scale, y: (clientY - shown.top) * scale };
}

canvas.onpointerdown = (event) => {
  canvas.setPointerCapture(event.pointerId);
  pressed = place(event);
};
canvas.onpointerup = (event) => attempt(() => prompt((given) => {
  const { x, y } = place(event);
  const [left, right] = [pressed.x, x].sort((a, b) => a - b);
  const [top, bottom] = [pressed.y, y].sort((a, b) => a - b);
  const smallest = (SMALLEST_BOX * canvas.width) / canvas.getBoundingClientRect().width;
  if (right - left > smallest && bottom - top > smallest) {
    given.box = [left, top, right, bottom];
  } else {
    given.points.push([x, y]);
    given.labels.push(event.shiftKey ? 0 : 1);
  }
}));
element("file", HTMLInputElement).onchange = (event) => {
  const [file] = /** @type {HTMLInputElement} */ (event.target).files ?? [];
  if (file) attempt(() => open(file));
};
buttons.add.onclick = () => {
  current = Math.max(0, ...objectIds) + 1;
  objectIds.push(current);
  updateButtons();
};
buttons.remove.onclick = () => attempt(async () => {
  await scene?.remove(current);
  prompts.delete(current);
  objectIds = objectIds.filter((id) => id !== current);
  if (objectIds.length === 0) objectIds.push(current + 1);
  current = objectIds[0];
  await draw();
  updateButtons();
});
buttons.play.onclick = () => attempt(play);
time.onchange = () => attempt(async () => {
  prompts = new Map();
  await scene?.show(Number(time.value));
  await draw();
});

await attempt(async () => {
  const query = new URLSearchParams(location.search);
  const ortFolder = new URL(`${query.get("ort") ?? "ort"}/`, location.href);
  const ort = await import(new URL("ort.webgpu.min.mjs", ortFolder).href);
  ort.env.wasm.wasmPaths = ortFolder.href;
  const device = /** @type {any} */ (query.get("device") ?? "webgpu");
  const dtype = /** @type {any} */ (query.get("dtype") ?? "fp32");
  model = await EdgeTam.load(new URL(query.get("model") ?? "model", location.href), { ort, device, dtype });
  say(`Ready on ${model.device}: open a picture or a video.`);
});
