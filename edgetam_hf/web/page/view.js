/** The canvas: the frame, masks over it, what was said, and what a click would give. */
import { cssOf } from "./colours.js";
import { drawMask } from "./masks_shown.js";
import { clamp, fit, move, toPicture, zoomAt } from "./zoom.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./engine.js").Prompt} Prompt */
/** @typedef {import("./zoom.js").Placement} Placement */

const [ON, OFF, DARK, LIGHT] = ["#12a150", "#e5383b", "rgb(0 0 0 / 0.65)", "#ffffff"];
const SHARP_SCALE = 3; // from here on pixels are shown as squares
const PREVIEW_TINT = 0.3;
const DIMMED = 0.25;

export class View {
  /** @type {Placement} */
  placement = { scale: 1, left: 0, top: 0 };
  /** @type {number[] | null} a box that is being drawn, in pixels of the picture */
  box = null;
  /** @type {number[] | null} the cross that keys move, [x, y] on the canvas */
  cross = null;
  #app;
  #context;
  /** Of what the placement is: another picture is shown as a whole. */
  #shown = "";
  #isWhole = true;

  /**
   * @param {App} app
   * @param {HTMLCanvasElement} canvas
   */
  constructor(app, canvas) {
    this.#app = app;
    this.canvas = canvas;
    this.#context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /** In pixels of the page. */
  get size() {
    return { width: this.canvas.clientWidth, height: this.canvas.clientHeight };
  }

  /** @returns {import("../types.js").Size} of the picture */
  get pictureSize() {
    return this.#app.media ?? { width: 1, height: 1 };
  }

  /**
   * The pixel [x, y] of the picture at a place on the canvas, `null` outside of the picture.
   *
   * @param {number[]} place
   */
  pixelAt(place) {
    const { width, height } = this.pictureSize;
    const [x, y] = toPicture(this.placement, place).map(Math.floor);
    return x >= 0 && y >= 0 && x < width && y < height ? [x, y] : null;
  }

  /**
   * The box [x_min, y_min, x_max, y_max] in whole pixels between two places on the canvas, cut at the picture.
   *
   * @param {number[]} one
   * @param {number[]} other
   */
  boxBetween(one, other) {
    const { width, height } = this.pictureSize;
    const [[left, top], [right, bottom]] = [toPicture(this.placement, one), toPicture(this.placement, other)];
    const [xs, ys] = [[left, right].map((x) => clamp(Math.round(x), 0, width)), [top, bottom].map(
      (y) => clamp(Math.round(y), 0, height),
    )];
    return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
  }

  /**
   * @param {number} factor
   * @param {number[]} [place] that stays, the middle of the canvas by default
   */
  zoom(factor, place = [this.size.width / 2, this.size.height / 2]) {
    this.placement = zoomAt(this.placement, factor, place, this.pictureSize, this.size);
    this.#isWhole = false;
    this.#app.changed();
  }

  /** @param {number[]} by [x, y] in pixels of the page */
  move(by) {
    this.placement = move(this.placement, by, this.pictureSize, this.size);
    this.#isWhole = false;
    this.#app.changed();
  }

  /** Shows the whole picture. */
  fit() {
    this.placement = fit(this.pictureSize, this.size);
    this.#isWhole = true;
    this.#app.changed();
  }

  draw() {
    const { project, frame } = this.#app;
    const { width, height } = this.size;
    const density = window.devicePixelRatio || 1;
    const [deviceWidth, deviceHeight] = [Math.round(width * density), Math.round(height * density)];
    if (this.canvas.width !== deviceWidth) this.canvas.width = deviceWidth;
    if (this.canvas.height !== deviceHeight) this.canvas.height = deviceHeight;
    const context = this.#context;
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!project || !frame) return;
    const { media } = project;
    const shown = `${media.kind} ${media.name} ${media.width} ${media.height}`;
    if (shown !== this.#shown || this.#isWhole) [this.placement, this.#isWhole] = [fit(media, this.size), true];
    this.#shown = shown;
    const { scale, left, top } = this.placement;
    context.translate(left, top);
    context.scale(scale, scale);
    context.imageSmoothingEnabled = scale < SHARP_SCALE;
    context.imageSmoothingQuality = "high";
    context.drawImage(frame, 0, 0, media.width, media.height);
    if (this.#app.everything) this.#drawEverything();
    else if (this.#app.areMasksShown) this.#drawMasks();
    context.setTransform(density, 0, 0, density, 0, 0);
    if (!this.#app.everything) this.#drawPrompts();
    if (this.box) this.#drawBox(this.box, this.#app.current?.colour ?? [255, 255, 255], [5, 4]);
    if (this.cross) this.#drawCross(this.cross);
  }

  #drawMasks() {
    const { project, frameIdx, preview, current } = this.#app;
    for (const { objectId, runs } of project?.found(frameIdx) ?? []) {
      const object = project?.object(objectId);
      const isReplaced = preview && objectId === current?.id;
      if (object?.isVisible && !isReplaced) this.#drawMask(runs, object.colour);
    }
    if (preview) this.#drawMask(preview, current?.colour ?? [255, 255, 255], PREVIEW_TINT);
  }

  #drawEverything() {
    const { everything } = this.#app;
    if (!everything) return;
    const { width, height } = this.pictureSize;
    this.#context.fillStyle = `rgb(0 0 0 / ${DIMMED})`;
    this.#context.fillRect(0, 0, width, height);
    for (const found of everything.found) {
      const colour = everything.colours.get(found) ?? [255, 255, 255];
      this.#drawMask(found.runs, colour, found === everything.hovered ? 0.7 : 0.25);
    }
  }

  /**
   * @param {Uint32Array} runs
   * @param {readonly number[]} colour
   * @param {number} [tint]
   */
  #drawMask(runs, colour, tint) {
    drawMask(this.#context, runs, colour, this.pictureSize, tint);
  }

  #drawPrompts() {
    const { project, frameIdx, currentId } = this.#app;
    for (const said of project?.saidOn(frameIdx) ?? []) {
      const object = project?.object(said.objectId);
      if (!object?.isVisible) continue;
      this.#context.globalAlpha = said.objectId === currentId ? 1 : 0.55;
      for (const { box } of said.prompts) if (box) this.#drawBox(box, object.colour, []);
      for (const prompt of said.prompts) this.#drawPoints(prompt, object.colour);
    }
    this.#context.globalAlpha = 1;
  }

  /**
   * @param {number[]} box
   * @param {readonly number[]} colour
   * @param {number[]} dashes
   */
  #drawBox([x, y, right, bottom], colour, dashes) {
    const { scale, left, top } = this.placement;
    const context = this.#context;
    const sides = /** @type {const} */ ([left + scale * x, top + scale * y, scale * (right - x), scale * (bottom - y)]);
    context.setLineDash([]);
    context.lineWidth = 4;
    context.strokeStyle = DARK;
    context.strokeRect(...sides);
    context.setLineDash(dashes);
    context.lineWidth = 2;
    context.strokeStyle = cssOf(colour);
    context.strokeRect(...sides);
    context.setLineDash([]);
  }

  /**
   * @param {Prompt} prompt
   * @param {readonly number[]} colour
   */
  #drawPoints({ points, labels }, colour) {
    const { scale, left, top } = this.placement;
    points.forEach(([x, y], idx) => {
      this.#drawPoint(left + scale * (x + 0.5), top + scale * (y + 0.5), labels[idx] === 1, colour);
    });
  }

  /**
   * A plus on green, or a minus on red, in a ring of the object's colour.
   *
   * @param {number} x
   * @param {number} y
   * @param {boolean} isOn
   * @param {readonly number[]} colour
   */
  #drawPoint(x, y, isOn, colour) {
    const context = this.#context;
    for (const [radius, fill] of /** @type {[number, string][]} */ ([
      [10, DARK], [9, cssOf(colour)], [7, LIGHT], [6, isOn ? ON : OFF],
    ])) {
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.fillStyle = fill;
      context.fill();
    }
    context.fillStyle = LIGHT;
    context.fillRect(x - 3.5, y - 1, 7, 2);
    if (isOn) context.fillRect(x - 1, y - 3.5, 2, 7);
  }

  /** @param {number[]} place */
  #drawCross([x, y]) {
    const context = this.#context;
    for (const [width, colour] of /** @type {[number, string][]} */ ([[4, DARK], [2, LIGHT]])) {
      context.beginPath();
      context.lineWidth = width;
      context.strokeStyle = colour;
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + 4 * dx, y + 4 * dy);
        context.lineTo(x + 14 * dx, y + 14 * dy);
      }
      context.stroke();
    }
  }
}
