/** The panel: objects, candidates of the current one, and what was said of it on the frame that is shown. */
import { changeObject, chooseCandidate, chooseObject, currentCandidates } from "./actions.js";
import { removeObject, removePrompts } from "./actions.js";
import { cssOf, colourOfHex, hexOf } from "./colours.js";
import { element, icon, iconButton, make, setText } from "./dom.js";
import { drawMask } from "./masks_shown.js";
import { areaOf, boxOf } from "./runs.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./engine.js").Found} Found */
/** @typedef {import("./engine.js").Prompt} Prompt */
/** @typedef {import("./project.js").ObjectData} ObjectData */

const THUMBNAIL = { width: 132, height: 84 }; // pixels of the screen

export class Panel {
  #app;
  #list = element("objects", HTMLUListElement);
  /** @type {Map<number, ReturnType<typeof makeRow>>} */
  #rows = new Map();
  /** What the candidates and the prompts were drawn from. */
  #drawnCandidates = "";
  #drawnId = 0;
  /** @type {unknown} */
  #drawnFound = null;
  /** @type {unknown} */
  #drawnSaid = null;

  /** @param {App} app */
  constructor(app) {
    this.#app = app;
  }

  /** Lets the user type a name for the current object. */
  rename() {
    const name = this.#rows.get(this.#app.currentId)?.name;
    name?.focus();
    name?.select();
  }

  draw() {
    this.#drawObjects();
    this.#drawCandidates();
    this.#drawSaid();
    const { everything, media } = this.#app;
    element("picking", HTMLElement).hidden = !everything;
    element("everything-options", HTMLElement).hidden = !media || media.kind === "live";
    setText(element("num-masks", HTMLElement), `${everything?.found.length ?? 0} masks left`);
  }

  #drawObjects() {
    const objects = this.#app.project?.objects ?? [];
    for (const [id, row] of this.#rows) {
      if (objects.some((object) => object.id === id)) continue;
      row.item.remove();
      this.#rows.delete(id);
    }
    objects.forEach((object, idx) => {
      const row = this.#rows.get(object.id) ?? makeRow(this.#app, object.id);
      this.#rows.set(object.id, row);
      if (this.#list.children[idx] !== row.item) this.#list.insertBefore(row.item, this.#list.children[idx] ?? null);
      this.#fillRow(row, object, idx);
    });
    const { currentId } = this.#app;
    if (currentId !== this.#drawnId) this.#rows.get(currentId)?.item.scrollIntoView({ block: "nearest" });
    this.#drawnId = currentId;
  }

  /**
   * @param {ReturnType<typeof makeRow>} row
   * @param {ObjectData} object
   * @param {number} idx
   */
  #fillRow(row, object, idx) {
    const { project, frameIdx, currentId } = this.#app;
    const found = project?.foundOf(frameIdx, object.id);
    row.item.classList.toggle("is-current", object.id === currentId);
    row.item.style.setProperty("--colour", cssOf(object.colour));
    row.choose.setAttribute("aria-pressed", String(object.id === currentId));
    row.choose.setAttribute("aria-label", `Choose ${object.name}`);
    setText(row.choose, String(idx + 1));
    row.colour.value = hexOf(object.colour);
    row.colour.setAttribute("aria-label", `Colour of ${object.name}`);
    if (document.activeElement !== row.name) row.name.value = object.name;
    row.name.setAttribute("aria-label", `Name of object ${idx + 1}`);
    setText(row.score, !found ? "–" : found.isPresent ? found.iouScore.toFixed(2) : "absent");
    row.score.title = found ? "Predicted IoU of the mask on this frame" : "Nothing was found on this frame";
    row.visible.replaceChildren(icon(object.isVisible ? "eye" : "eye-off"));
    name(row.visible, `${object.isVisible ? "Hide" : "Show"} ${object.name}`);
    name(row.remove, `Remove ${object.name}`);
  }

  #drawCandidates() {
    const { project, currentId, current, frame, everything } = this.#app;
    const found = currentCandidates(this.#app);
    const section = element("candidates-section", HTMLElement);
    section.hidden = found.length < 2 || everything !== null;
    const choice = project?.saidOf(0, currentId)?.choice ?? 0;
    const drawn = `${currentId} ${choice} ${current?.colour}`;
    if (section.hidden || !frame || (found === this.#drawnFound && drawn === this.#drawnCandidates)) return;
    [this.#drawnFound, this.#drawnCandidates] = [found, drawn];
    const buttons = found.map((one, idx) => this.#candidate(one, idx, idx === choice));
    const list = element("candidates", HTMLElement);
    const hadFocus = list.contains(document.activeElement);
    list.replaceChildren(...buttons);
    if (hadFocus) buttons[choice].focus();
  }

  /**
   * @param {Found} found
   * @param {number} idx
   * @param {boolean} isChosen
   */
  #candidate(found, idx, isChosen) {
    const canvas = make("canvas", { width: THUMBNAIL.width, height: THUMBNAIL.height });
    const { media, frame, current } = this.#app;
    if (media && frame) drawThumbnail(canvas, frame, found, current?.colour ?? [255, 255, 255], media);
    const score = found.iouScore.toFixed(2);
    return make("button", {
      type: "button", className: "candidate", "aria-pressed": isChosen, onclick: () => chooseCandidate(this.#app, idx),
      "aria-label": `Candidate ${idx + 1}, predicted IoU ${score}`,
    }, canvas, make("span", { textContent: score }));
  }

  #drawSaid() {
    const { project, frameIdx, current } = this.#app;
    const said = current && project?.saidOf(frameIdx, current.id);
    setText(element("said-title", HTMLElement), current ? `Prompts of ${current.name} here` : "Prompts here");
    element("said-section", HTMLElement).hidden = !project || this.#app.everything !== null;
    element("said-nothing", HTMLElement).hidden = Boolean(said);
    if (said === this.#drawnSaid) return;
    this.#drawnSaid = said;
    const rows = said?.prompts.map((prompt, idx) => {
      const text = describe(prompt);
      const remove = () => removePrompts(this.#app, said.objectId, idx);
      return make("li", {}, make("span", { textContent: text }), iconButton("close", `Take back: ${text}`, remove));
    });
    element("said", HTMLElement).replaceChildren(...(rows ?? []));
  }
}

/**
 * @param {App} app
 * @param {number} id
 */
function makeRow(app, id) {
  const choose = make("button", { type: "button", className: "number", onclick: () => chooseObject(app, id) });
  const colour = make("input", { type: "color" });
  colour.addEventListener("change", () => changeObject(app, id, { colour: colourOfHex(colour.value) }));
  const input = make("input", { type: "text", className: "name", spellcheck: false, maxLength: 80 });
  input.addEventListener("focus", () => {
    if (app.currentId !== id) chooseObject(app, id);
  });
  input.addEventListener("change", () => {
    const text = input.value.trim();
    if (text && text !== app.project?.object(id)?.name) changeObject(app, id, { name: text });
    app.changed();
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") input.value = app.project?.object(id)?.name ?? "";
    if (event.key === "Enter" || event.key === "Escape") input.blur();
  });
  const score = make("span", { className: "score" });
  const toggle = () => changeObject(app, id, { isVisible: !app.project?.object(id)?.isVisible });
  const visible = iconButton("eye", "Hide", toggle);
  const remove = iconButton("trash", "Remove", () => removeObject(app, id));
  const item = make("li", {}, choose, colour, input, score, visible, remove);
  item.addEventListener("click", (event) => {
    if (event.target === item || event.target === score) chooseObject(app, id);
  });
  return { item, choose, colour, name: input, score, visible, remove };
}

/**
 * @param {HTMLElement} button
 * @param {string} label
 */
function name(button, label) {
  button.title = label;
  button.setAttribute("aria-label", label);
}

/** @param {Prompt} prompt */
function describe({ points, labels, box, mask }) {
  const said = points.map(([x, y], idx) => `${labels[idx] ? "On" : "Off"} at ${x}, ${y}`);
  if (box) said.push(`Box ${box[2] - box[0]} × ${box[3] - box[1]} at ${box[0]}, ${box[1]}`);
  if (mask) said.push(`Mask of ${areaOf(mask).toLocaleString("en")} pixels`);
  return said.join("; ");
}

/**
 * The surroundings of a mask, with the mask.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {ImageBitmap} frame
 * @param {Found} found
 * @param {readonly number[]} colour
 * @param {import("../types.js").Size} size
 */
function drawThumbnail(canvas, frame, found, colour, size) {
  const context = canvas.getContext("2d");
  if (!context) return;
  const [left, top, width, height] = boxOf(found.runs, size);
  const room = Math.min(Math.max(1.3 * width, 1.3 * height * (canvas.width / canvas.height), 24), 1.2 * size.width);
  const scale = canvas.width / room;
  context.translate(canvas.width / 2, canvas.height / 2);
  context.scale(scale, scale);
  context.translate(-(left + width / 2), -(top + height / 2));
  context.drawImage(frame, 0, 0, size.width, size.height);
  drawMask(context, found.runs, colour, size);
}

