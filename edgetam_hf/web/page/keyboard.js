/** Keys: commands by their keys, Space to play or to move, and a cross on the canvas for those without a mouse. */
import { click } from "./actions.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./commands.js").Command} Command */
/** @typedef {import("./gestures.js").Gestures} Gestures */
/** @typedef {import("./view.js").View} View */

const [STEP, FINE_STEP] = [16, 1]; // of the cross, in pixels of the page
/** @type {Record<string, number[]>} */
const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
/** @type {Record<string, string>} */
const SHOWN = {
  ArrowLeft: "←", ArrowRight: "→", Escape: "Esc", Backspace: "⌫", Delete: "Del", "-": "−",
};

/**
 * @param {App} app
 * @param {readonly Command[]} commands
 * @param {Gestures} gestures
 * @param {View} view
 */
export function listenToKeys(app, commands, gestures, view) {
  const byKey = new Map(commands.flatMap((command) => command.keys.map((key) => [key, command])));
  document.addEventListener("keydown", (event) => {
    if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
    if (event.target === view.canvas && moveCross(app, view, event)) return;
    const key = nameOf(event);
    if (key === "Space") return onSpace(event, gestures);
    const command = byKey.get(key);
    if (!command) return;
    event.preventDefault();
    if (command.isPossible?.() ?? true) command.run();
  });
  document.addEventListener("keyup", (event) => {
    if (event.code !== "Space" || !gestures.isSpaceHeld) return;
    gestures.isSpaceHeld = false;
    if (!gestures.hasMoved) byKey.get("Space")?.run();
  });
  window.addEventListener("blur", () => {
    gestures.isSpaceHeld = false;
  });
  view.canvas.addEventListener("blur", () => {
    view.cross = null;
    app.changed();
  });
}

/**
 * @param {KeyboardEvent} event
 * @param {Gestures} gestures
 */
function onSpace(event, gestures) {
  if (event.target instanceof Element && event.target.closest("button, a, label, summary, select")) return;
  event.preventDefault();
  if (event.repeat) return;
  gestures.isSpaceHeld = true;
  gestures.hasMoved = false;
}

/**
 * Moves the cross on the canvas that has the focus, and clicks there; gives whether the key meant that.
 *
 * @param {App} app
 * @param {View} view
 * @param {KeyboardEvent} event
 */
function moveCross(app, view, event) {
  if (!app.isOpen || event.ctrlKey || event.metaKey) return false;
  const direction = DIRECTIONS[event.key];
  if (direction) {
    const { width, height } = view.size;
    const step = event.altKey ? FINE_STEP : STEP;
    const [x, y] = view.cross ?? [width / 2, height / 2];
    view.cross = [x + step * direction[0], y + step * direction[1]];
    app.changed();
  } else if (event.key === "Enter" && view.cross) {
    const point = view.pixelAt(view.cross);
    if (point) click(app, point, event.shiftKey ? 0 : 1);
  } else {
    return false;
  }
  event.preventDefault();
  return true;
}

/** @param {EventTarget | null} target */
function isTyping(target) {
  if (target instanceof HTMLInputElement) return !["color", "range"].includes(target.type);
  return target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement;
}

/**
 * "Ctrl+Z", "Shift+E", "?": as the table of commands names keys. Shift is named where it is not in the key itself.
 *
 * @param {KeyboardEvent} event
 */
function nameOf(event) {
  if (event.code === "Space") return "Space";
  const isLetter = /^[a-z]$/i.test(event.key);
  const key = isLetter ? event.key.toUpperCase() : event.key;
  const isShiftNamed = event.shiftKey && (isLetter || key.length > 1);
  if (event.getModifierState("AltGraph")) return key; // "[" is written so on many keyboards
  const control = event.ctrlKey || event.metaKey ? "Ctrl+" : "";
  return `${control}${event.altKey ? "Alt+" : ""}${isShiftNamed ? "Shift+" : ""}${key}`;
}

/**
 * A key as it is written for people.
 *
 * @param {string} key
 */
export function shownKey(key) {
  return key === "+" ? key : key.split("+").map((part) => SHOWN[part] ?? part).join(" ");
}
