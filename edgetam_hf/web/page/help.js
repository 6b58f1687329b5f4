/** The help: gestures, and every key of the table of commands. */
import { element, make } from "./dom.js";
import { shownKey } from "./keyboard.js";

/** @typedef {import("./commands.js").Command} Command */

const GESTURES = [
  ["Click", "on the object"],
  ["Right click, Shift click", "off the object"],
  ["Drag", "a box around it"],
  ["Wheel, pinch", "zoom"],
  ["Space and drag, middle button, two fingers", "move the picture"],
  [
    "Tab to the picture",
    "arrows move a cross, with Alt in fine steps; Enter clicks on the object, Shift Enter off it",
  ],
];

/**
 * Fills the dialog, and gives a function that opens it.
 *
 * @param {readonly Command[]} commands
 */
export function makeHelp(commands) {
  const dialog = element("help", HTMLDialogElement);
  const shown = commands.filter(({ id }) => !/^object-[2-9]$/.test(id));
  const groups = [...new Set(shown.map(({ group }) => group))];
  const sections = groups.map((group) => section(group, shown.filter((one) => one.group === group).map(rowOf)));
  const gestures = section("Mouse and touch", GESTURES.map(gestureRow));
  element("help-content", HTMLElement).replaceChildren(gestures, ...sections);
  return () => dialog.showModal();
}

/**
 * @param {string} title
 * @param {HTMLElement[]} rows
 */
function section(title, rows) {
  return make("section", {}, make("h3", { textContent: title }), make("dl", {}, ...rows));
}

/** @param {Command} command */
function rowOf({ id, label, keys }) {
  const isFirst = id === "object-1";
  const shown = isFirst ? ["1", "9"] : keys;
  const kbds = shown.flatMap((key, idx) => {
    const kbd = make("kbd", { textContent: shownKey(key) });
    return idx > 0 ? [isFirst ? " to " : " ", kbd] : [kbd];
  });
  return make("div", {}, make("dt", {}, ...kbds), make("dd", { textContent: isFirst ? "Choose an object" : label }));
}

/** @param {string[]} gesture */
function gestureRow([what, meaning]) {
  return make("div", { className: "gesture" }, make("dt", { textContent: what }), make("dd", { textContent: meaning }));
}
