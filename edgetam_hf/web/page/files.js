/** Files that come in: by button, dropped or pasted. Over the panel a file is a mask, anywhere else it is opened. */
import { addObject, giveMask } from "./actions.js";
import { element } from "./dom.js";
import { readMasks } from "./mask_file.js";
import { open } from "./media.js";

/** @typedef {import("./app.js").App} App */

/**
 * @param {App} app
 */
export function listenToFiles(app) {
  const inputs = { file: open, "mask-file": giveMaskFile };
  for (const [id, take] of Object.entries(inputs)) {
    const input = element(id, HTMLInputElement);
    input.addEventListener("change", () => {
      const [file] = input.files ?? [];
      input.value = ""; // so that the same file can be chosen again
      if (file) take(app, file);
    });
  }
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData?.files ?? [];
    if (file) open(app, file);
  });
  listenToDrops(app);
}

/** @param {App} app */
function listenToDrops(app) {
  const panel = element("panel", HTMLElement);
  const mark = (/** @type {string} */ place) => {
    document.body.dataset.drop = place;
  };
  const placeOf = (/** @type {DragEvent} */ event) => (
    app.isOpen && event.target instanceof Node && panel.contains(event.target) ? "mask" : "open"
  );
  document.addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    mark(placeOf(event));
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) mark("");
  });
  document.addEventListener("drop", (event) => {
    const [file] = event.dataTransfer?.files ?? [];
    mark("");
    if (!file) return;
    event.preventDefault();
    if (placeOf(event) === "mask") giveMaskFile(app, file);
    else open(app, file);
  });
}

/**
 * Masks of a file as prompts: the largest for the current object, each further one for a new object.
 *
 * @param {App} app
 * @param {File} file
 */
async function giveMaskFile(app, file) {
  await app.attempt(async () => {
    if (!app.media) return;
    const masks = await readMasks(file, file.name, app.media);
    for (const [idx, mask] of masks.entries()) {
      if (idx > 0) await addObject(app);
      await giveMask(app, mask);
    }
  });
}
