/**
 * The mouse, the pen and fingers on the canvas.
 *
 *     left click on the object, right click or with Shift off it, drag for a box
 *     wheel or two fingers to zoom; middle button, two fingers or Space and drag to move
 */
import { click, drawBox, hover } from "./actions.js";
import { hoverEverything, pickEverything } from "./pick_everything.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./view.js").View} View */

const SMALLEST_DRAG = 5; // pixels of the page; less is a click
const WHEEL_SPEED = 0.0018;

/**
 * @typedef {object} Press what began where
 * @property {number[]} start [x, y] on the canvas
 * @property {"say" | "move"} kind
 * @property {number} label
 * @property {boolean} isDrag
 */

export class Gestures {
  /** Whether Space is held: a drag moves the picture. */
  isSpaceHeld = false;
  /** Whether the picture was moved since Space was pressed. */
  hasMoved = false;
  #app;
  #view;
  /** @type {Map<number, number[]>} places of fingers and buttons that are down, by pointer */
  #down = new Map();
  /** @type {Press | null} */
  #press = null;

  /**
   * @param {App} app
   * @param {View} view
   */
  constructor(app, view) {
    this.#app = app;
    this.#view = view;
    const { canvas } = view;
    canvas.addEventListener("pointerdown", (event) => this.#onDown(event));
    canvas.addEventListener("pointermove", (event) => this.#onMove(event));
    canvas.addEventListener("pointerup", (event) => this.#onUp(event));
    canvas.addEventListener("pointercancel", (event) => this.#onCancel(event));
    canvas.addEventListener("pointerleave", () => this.#hover(null));
    canvas.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  /** Gives up a drag that has begun. */
  cancel() {
    const wasDrag = this.#press !== null;
    this.#press = this.#view.box = null;
    this.#app.changed();
    return wasDrag;
  }

  /** @param {PointerEvent} event */
  #onDown(event) {
    event.preventDefault(); // the keyboard stays with the page, not with the canvas
    if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
    this.#view.cross = null;
    this.#view.canvas.setPointerCapture(event.pointerId);
    const place = placeOf(event);
    this.#down.set(event.pointerId, place);
    if (this.#down.size > 1 || !this.#app.isOpen) {
      this.cancel();
      return;
    }
    const { tool } = this.#app;
    const isMove = event.button === 1 || this.isSpaceHeld || tool === "pan";
    const isOff = event.button === 2 || event.shiftKey || tool === "off";
    this.#press = { start: place, kind: isMove ? "move" : "say", label: isOff ? 0 : 1, isDrag: false };
  }

  /** @param {PointerEvent} event */
  #onMove(event) {
    const place = placeOf(event);
    const before = this.#down.get(event.pointerId);
    if (!before) return this.#hover(event.pointerType === "mouse" ? place : null, event.shiftKey);
    if (this.#down.size === 2) this.#pinch(event.pointerId, before, place);
    this.#down.set(event.pointerId, place);
    const press = this.#press;
    if (!press) return;
    const [x, y] = [place[0] - press.start[0], place[1] - press.start[1]];
    press.isDrag ||= Math.hypot(x, y) > SMALLEST_DRAG;
    if (press.kind === "move") {
      this.hasMoved = true;
      this.#view.move([place[0] - before[0], place[1] - before[1]]);
    } else if (press.isDrag && press.label === 1 && !this.#app.everything) {
      this.#view.box = this.#view.boxBetween(press.start, place);
      this.#app.changed();
    }
  }

  /** @param {PointerEvent} event */
  #onUp(event) {
    const place = placeOf(event);
    this.#down.delete(event.pointerId);
    const press = this.#press;
    this.cancel();
    if (press?.kind !== "say") return;
    const { everything, tool } = this.#app;
    if (everything) return pickEverything(this.#app, this.#view.pixelAt(place));
    if (press.isDrag && press.label === 1) {
      const [x, y, right, bottom] = this.#view.boxBetween(press.start, place);
      if (right > x && bottom > y) drawBox(this.#app, [x, y, right, bottom]);
      return;
    }
    const point = this.#view.pixelAt(place);
    if (point && tool !== "box") click(this.#app, point, press.label);
  }

  /** @param {PointerEvent} event */
  #onCancel(event) {
    this.#down.delete(event.pointerId);
    this.cancel();
  }

  /** @param {WheelEvent} event */
  #onWheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    const speed = event.ctrlKey ? 5 * WHEEL_SPEED : WHEEL_SPEED; // fingers on a touchpad pinch in small steps
    if (this.#app.isOpen) this.#view.zoom(Math.exp(-event.deltaY * lines * speed), placeOf(event));
  }

  /**
   * @param {number} pointerId of the finger that has moved
   * @param {number[]} before
   * @param {number[]} place
   */
  #pinch(pointerId, before, place) {
    const [[, other]] = [...this.#down].filter(([id]) => id !== pointerId);
    const [old, now] = [before, place].map(([x, y]) => Math.hypot(x - other[0], y - other[1]));
    const middle = [(place[0] + other[0]) / 2, (place[1] + other[1]) / 2];
    this.#view.move([(place[0] - before[0]) / 2, (place[1] - before[1]) / 2]);
    if (old > 0) this.#view.zoom(now / old, middle);
  }

  /**
   * @param {number[] | null} place
   * @param {boolean} [isShift]
   */
  #hover(place, isShift = false) {
    const { everything, tool } = this.#app;
    const point = place && this.#app.isOpen ? this.#view.pixelAt(place) : null;
    if (everything) return hoverEverything(this.#app, point);
    if (this.#app.media?.kind !== "picture") return;
    const canClick = tool === "on" || tool === "off";
    hover(this.#app, point && canClick ? { point, label: isShift || tool === "off" ? 0 : 1 } : null);
  }
}

/**
 * @param {MouseEvent} event
 * @returns {number[]} [x, y] on the canvas
 */
function placeOf(event) {
  const { left, top } = /** @type {HTMLElement} */ (event.currentTarget).getBoundingClientRect();
  return [event.clientX - left, event.clientY - top];
}
