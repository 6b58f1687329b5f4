/** The timeline of a video: a row for each object with prompted frames, presence, and predicted IoU as a curve. */
import { chooseObject } from "./actions.js";
import { cssOf } from "./colours.js";
import { element, make, setText } from "./dom.js";
import { show } from "./frames_shown.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./project.js").ObjectData} ObjectData */
/** @typedef {import("./project.js").Project} Project */

const ROW = 34; // pixels of the page
const MOST_SAMPLES = 4; // frames that are looked at for a column of pixels
const [CURVE_TOP, CURVE_BOTTOM, BAR_TOP, BAR_HEIGHT] = [4, 25, 27, 3];
const MARK = 4; // half of a prompted frame's mark

export class Timeline {
  #app;
  #section = element("timeline", HTMLElement);
  #canvas = element("rows", HTMLCanvasElement);
  #names = element("row-names", HTMLElement);
  #head = element("playhead", HTMLElement);
  #time = element("time", HTMLInputElement);
  #number = element("frame-number", HTMLInputElement);
  #drawn = "";
  #drawnId = 0;
  #isScrubbing = false;

  /** @param {App} app */
  constructor(app) {
    this.#app = app;
    const scrub = (/** @type {PointerEvent} */ event) => show(app, this.#frameAt(event.offsetX));
    this.#canvas.addEventListener("pointerdown", (event) => {
      this.#canvas.setPointerCapture(event.pointerId);
      this.#isScrubbing = true;
      app.isPlaying = false;
      const object = app.project?.objects[Math.floor(event.offsetY / ROW)];
      if (object) chooseObject(app, object.id);
      scrub(event);
    });
    this.#canvas.addEventListener("pointermove", (event) => this.#isScrubbing && scrub(event));
    this.#canvas.addEventListener("lostpointercapture", () => {
      this.#isScrubbing = false;
    });
    this.#time.addEventListener("input", () => {
      app.isPlaying = false;
      show(app, Number(this.#time.value));
    });
    this.#number.addEventListener("change", () => show(app, Math.round(Number(this.#number.value)) - 1));
    new ResizeObserver(() => this.draw()).observe(this.#canvas);
  }

  draw() {
    const { project, wantedFrameIdx } = this.#app;
    this.#section.hidden = project?.media.kind !== "video";
    if (!project || this.#section.hidden) return;
    const { numFrames, frameRate } = project.media;
    this.#time.max = String(numFrames - 1);
    this.#time.parentElement?.style.setProperty("--num-frames", String(numFrames));
    this.#time.value = String(wantedFrameIdx);
    this.#time.setAttribute("aria-valuetext", `Frame ${wantedFrameIdx + 1} of ${numFrames}`);
    this.#number.max = String(numFrames);
    if (document.activeElement !== this.#number) this.#number.value = String(wantedFrameIdx + 1);
    setText(element("num-frames", HTMLElement), `of ${numFrames}`);
    setText(element("clock", HTMLElement), `${clock(wantedFrameIdx, frameRate)} / ${clock(numFrames - 1, frameRate)}`);
    this.#drawNames(project);
    this.#drawRows(project);
    this.#head.style.transform = `translateX(${this.#columnOf(wantedFrameIdx)}px)`;
  }

  get #width() {
    return this.#canvas.clientWidth;
  }

  /** @param {number} frameIdx */
  #columnOf(frameIdx) {
    const numFrames = this.#app.media?.numFrames ?? 1;
    return ((frameIdx + 0.5) / numFrames) * this.#width;
  }

  /** @param {number} x */
  #frameAt(x) {
    return Math.floor((x / Math.max(1, this.#width)) * (this.#app.media?.numFrames ?? 1));
  }

  /** @param {Project} project */
  #drawNames(project) {
    const { currentId } = this.#app;
    while (this.#names.children.length > project.objects.length) this.#names.lastElementChild?.remove();
    project.objects.forEach((object, idx) => {
      const name = this.#names.children[idx] ?? this.#names.appendChild(make("div", {}));
      setText(name, object.name);
      name.classList.toggle("is-current", object.id === currentId);
      /** @type {HTMLElement} */ (name).style.setProperty("--colour", cssOf(object.colour));
      if (object.id === currentId && currentId !== this.#drawnId) name.scrollIntoView({ block: "nearest" });
    });
    this.#drawnId = currentId;
  }

  /** @param {Project} project */
  #drawRows(project) {
    const density = window.devicePixelRatio || 1;
    const [width, height] = [this.#width, ROW * Math.max(1, project.objects.length)];
    const { color } = getComputedStyle(this.#section);
    const drawn = [project.revision, project.media.name, width, density, this.#app.currentId, color].join();
    if (drawn === this.#drawn || width === 0) return;
    this.#drawn = drawn;
    this.#canvas.style.height = `${height}px`;
    [this.#canvas.width, this.#canvas.height] = [Math.round(width * density), Math.round(height * density)];
    const context = /** @type {CanvasRenderingContext2D} */ (this.#canvas.getContext("2d"));
    context.scale(density, density);
    project.objects.forEach((object, idx) => {
      context.save();
      context.translate(0, idx * ROW);
      if (object.id === this.#app.currentId) fillRow(context, color, 0.07, width);
      context.fillStyle = withOpacity(color, 0.12);
      context.fillRect(0, ROW - 1, width, 1);
      this.#drawRow(context, project, object, color);
      context.restore();
    });
    this.#canvas.setAttribute("aria-label", summary(project));
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Project} project
   * @param {ObjectData} object
   * @param {string} ink colour of text
   */
  #drawRow(context, project, object, ink) {
    const width = this.#width;
    const columns = samples(project, object.id, width);
    context.fillStyle = cssOf(object.colour, 0.9);
    const span = Math.max(1, width / project.media.numFrames);
    for (const { x, isPresent } of columns) {
      if (isPresent) context.fillRect(x - span / 2, BAR_TOP, span + 0.5, BAR_HEIGHT);
    }
    for (const stretch of stretchesOf(columns, 1.5 * span + 1)) drawCurve(context, stretch, object.colour, span);
    for (const frameIdx of project.promptedFrames(object.id)) drawMark(context, this.#columnOf(frameIdx), object, ink);
  }
}

/** @typedef {import("./engine.js").Found & { x: number }} Column one frame, or the least certain of several */

/**
 * Columns in stretches without a gap.
 *
 * @param {Column[]} columns
 * @param {number} largestStep between neighbours
 */
function stretchesOf(columns, largestStep) {
  /** @type {Column[][]} */
  const stretches = [];
  for (const column of columns) {
    const last = stretches.at(-1)?.at(-1);
    if (last && column.x - last.x <= largestStep) stretches.at(-1)?.push(column);
    else stretches.push([column]);
  }
  return stretches;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Column[]} columns of one stretch
 * @param {readonly number[]} colour
 * @param {number} span width of a frame
 */
function drawCurve(context, columns, colour, span) {
  const places = columns.map(({ x, iouScore }) => (
    [x, CURVE_BOTTOM - Math.max(0, Math.min(1, iouScore)) * (CURVE_BOTTOM - CURVE_TOP)]
  ));
  const [[first, start], [last, end]] = [places[0], places[places.length - 1]];
  const line = [[first - span / 2, start], ...places, [last + span / 2, end]];
  context.beginPath();
  for (const [x, y] of line) context.lineTo(x, y);
  context.strokeStyle = cssOf(colour);
  context.lineWidth = 1.5;
  context.stroke();
  context.lineTo(last + span / 2, CURVE_BOTTOM);
  context.lineTo(first - span / 2, CURVE_BOTTOM);
  context.fillStyle = cssOf(colour, 0.18);
  context.fill();
}

/**
 * What is shown of an object in each column: the least certain of the frames that are looked at.
 *
 * @param {Project} project
 * @param {number} objectId
 * @param {number} width
 * @returns {Column[]}
 */
function samples(project, objectId, width) {
  const { numFrames } = project.media;
  const numColumns = Math.max(1, Math.min(numFrames, Math.floor(width)));
  const columns = [];
  for (let column = 0; column < numColumns; column++) {
    const first = Math.floor((column * numFrames) / numColumns);
    const end = Math.floor(((column + 1) * numFrames) / numColumns);
    const stride = Math.max(1, Math.ceil((end - first) / MOST_SAMPLES));
    let found;
    for (let frameIdx = first; frameIdx < end; frameIdx += stride) {
      const one = project.foundOf(frameIdx, objectId);
      if (one && (!found || one.iouScore < found.iouScore)) found = one;
    }
    if (found) columns.push({ x: ((column + 0.5) / numColumns) * width, ...found });
  }
  return columns;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} x
 * @param {ObjectData} object
 * @param {string} ink
 */
function drawMark(context, x, object, ink) {
  context.beginPath();
  const y = (CURVE_TOP + CURVE_BOTTOM) / 2;
  for (const [dx, dy] of [[0, -MARK], [MARK, 0], [0, MARK], [-MARK, 0]]) context.lineTo(x + dx, y + dy);
  context.closePath();
  context.fillStyle = cssOf(object.colour);
  context.fill();
  context.strokeStyle = ink;
  context.lineWidth = 1.5;
  context.stroke();
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {string} ink
 * @param {number} opacity
 * @param {number} width
 */
function fillRow(context, ink, opacity, width) {
  context.fillStyle = withOpacity(ink, opacity);
  context.fillRect(0, 0, width, ROW);
}

/**
 * @param {string} colour "rgb(1, 2, 3)", as the browser computes it
 * @param {number} opacity
 */
function withOpacity(colour, opacity) {
  return `rgb(${colour.match(/[\d.]+/g)?.slice(0, 3).join(" ")} / ${opacity})`;
}

/** @param {Project} project */
function summary(project) {
  const rows = project.objects.map(({ id, name }) => {
    const prompted = project.promptedFrames(id).map((frameIdx) => frameIdx + 1);
    const list = prompted.length > 5 ? `${prompted.slice(0, 5).join(", ")} and more` : prompted.join(", ");
    return `${name}: ${prompted.length > 0 ? `said on frame ${list}` : "nothing was said"}`;
  });
  return `Results by frame. ${rows.join("; ")}`;
}

/**
 * @param {number} frameIdx
 * @param {number} frameRate
 */
function clock(frameIdx, frameRate) {
  const seconds = frameIdx / (frameRate || 25);
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const rest = (seconds % 60).toFixed(2).padStart(5, "0");
  return `${hours > 0 ? `${hours}:${String(minutes).padStart(2, "0")}` : minutes}:${rest}`;
}
