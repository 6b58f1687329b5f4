/**
 * What the user does to objects: each action changes the document, tells the engine, and keeps what it finds.
 *
 * Actions run one after the other. One that fails leaves the document as it was, and a sentence in the page.
 */
import { isAmbiguous, keepChoice, tellChanges, tellStep } from "./tell.js";
import { differences, joinPrompts } from "./project.js";
import { show } from "./frames_shown.js";
import { isOnMask } from "./runs.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./app.js").Tool} Tool */
/** @typedef {import("./engine.js").Prompt} Prompt */
/** @typedef {import("./engine.js").Found} Found */
/** @typedef {import("./project.js").Project} Project */

/**
 * A click (x, y) in pixels of the picture.
 *
 * @param {App} app
 * @param {number[]} point
 * @param {number} label 1 on the object, 0 off the object
 */
export function click(app, point, label) {
  return sayHere(app, { points: [point], labels: [label], box: null, mask: null });
}

/**
 * @param {App} app
 * @param {number[]} box [x_min, y_min, x_max, y_max] in pixels of the picture
 */
export function drawBox(app, box) {
  return sayHere(app, { points: [], labels: [], box, mask: null });
}

/**
 * @param {App} app
 * @param {Uint32Array} mask
 */
export function giveMask(app, mask) {
  return sayHere(app, { points: [], labels: [], box: null, mask });
}

/**
 * Says something of the current object on the frame that is shown; where there is no object, of a new one.
 *
 * @param {App} app
 * @param {Prompt} prompt
 */
function sayHere(app, prompt) {
  const frameIdx = app.frameIdx;
  return change(app, (project) => {
    const id = project.object(app.currentId)?.id ?? addTo(app, project);
    project.addPrompt(project.media.kind === "live" ? app.frameIdx : frameIdx, id, prompt);
    show(app, frameIdx); // following may have gone on meanwhile
  });
}

/**
 * @param {App} app
 * @param {Project} project
 */
function addTo(app, project) {
  return (app.currentId = project.addObject().id);
}

/**
 * A change of the document, which the engine is told.
 *
 * @param {App} app
 * @param {(project: Project) => string | void} make changes it, and may give a sentence for the user
 */
function change(app, make) {
  const { project } = app;
  const asked = performance.now();
  return app.edit(async () => {
    if (!project || !app.isOpen) throw new Error("Open a picture or a video first.");
    if (project !== app.project) return;
    const [before, step] = [project.said, project.lastStep];
    const started = performance.now();
    const sentence = make(project);
    app.changed();
    try {
      await tellChanges(app, before);
    } catch (error) {
      while (project.lastStep !== step) project.drop();
      throw error;
    }
    app.say(sentence ?? `${describe(app)}${Math.round(performance.now() - started)} ms`);
    requestAnimationFrame(() => performance.measure("click to mask", { start: asked })); // once it is drawn
  });
}

/** @param {App} app */
function describe(app) {
  const found = app.project?.foundOf(app.frameIdx, app.currentId);
  const name = app.current?.name;
  if (!found) return name ? `${name}: no prompts here. ` : "";
  return `${name}: predicted IoU ${found.iouScore.toFixed(2)}${found.isPresent ? "" : ", seems absent"}. `;
}

/**
 * Takes back the last step, or takes it again.
 *
 * @param {App} app
 * @param {"undo" | "redo"} direction
 */
export function travel(app, direction) {
  return app.edit(async () => {
    const { project } = app;
    const name = direction === "undo" ? project?.undoName : project?.redoName;
    if (!project || !name) return;
    const before = project.said;
    project[direction]();
    const { changed } = differences(before, project.said);
    try {
      await tellStep(app, before);
    } catch (error) {
      project[direction === "undo" ? "redo" : "undo"]();
      throw error;
    }
    if (!project.object(app.currentId)) app.currentId = project.objects.at(-1)?.id ?? 0;
    if (changed.length > 0) {
      app.currentId = changed[0].objectId;
      show(app, changed[0].frameIdx);
    }
    app.say(`${direction === "undo" ? "Undone" : "Done again"}: ${name}.`);
  });
}

/** @param {App} app */
export function addObject(app) {
  return change(app, (project) => {
    addTo(app, project);
    return `${app.current?.name}: click on it.`;
  });
}

/**
 * @param {App} app
 * @param {number} id
 */
export function removeObject(app, id) {
  return change(app, (project) => {
    const name = project.object(id)?.name;
    const idx = project.objects.findIndex((object) => object.id === id);
    project.removeObject(id);
    if (app.currentId === id) app.currentId = project.objects[Math.min(idx, project.objects.length - 1)]?.id ?? 0;
    return `${name} is removed.`;
  });
}

/**
 * Takes back what was said of an object on the frame that is shown: one prompt, or all.
 *
 * @param {App} app
 * @param {number} objectId
 * @param {number} [promptIdx]
 */
export function removePrompts(app, objectId, promptIdx) {
  const { frameIdx } = app;
  const meant = promptIdx === undefined ? null : app.project?.saidOf(frameIdx, objectId)?.prompts[promptIdx];
  return change(app, (project) => {
    const prompts = project.saidOf(frameIdx, objectId)?.prompts ?? [];
    const idx = meant ? prompts.indexOf(meant) : undefined; // others may have been taken back since
    if (prompts.length > 0 && idx !== -1) project.removePrompts(frameIdx, objectId, idx);
  });
}

/**
 * @param {App} app
 * @param {number} id
 * @param {Partial<Omit<import("./project.js").ObjectData, "id">>} changes
 */
export function changeObject(app, id, changes) {
  app.project?.changeObject(id, changes);
  app.changed();
}

/**
 * The object that clicks and boxes speak of from now on.
 *
 * @param {App} app
 * @param {number} id
 */
export function chooseObject(app, id) {
  app.currentId = id;
  app.preview = null;
  app.say(`${app.current?.name ?? ""} is chosen.`);
}

/**
 * @param {App} app
 * @param {Tool} tool
 */
export function chooseTool(app, tool) {
  app.tool = tool;
  app.changed();
}

/**
 * The candidates of the current object of a picture, best first; none where it is not ambiguous.
 *
 * @param {App} app
 * @returns {Found[]}
 */
export function currentCandidates(app) {
  const said = app.media?.kind === "picture" ? app.project?.saidOf(0, app.currentId) : undefined;
  return (said && app.candidates.get(said.prompts)) ?? [];
}

/**
 * Chooses a candidate of the current object of a picture.
 *
 * @param {App} app
 * @param {number} choice
 */
export function chooseCandidate(app, choice) {
  return app.edit(async () => {
    const found = currentCandidates(app);
    if (!found[choice] || !app.project) return;
    app.project.choose(app.currentId, choice);
    keepChoice(app, app.currentId, found);
    app.say(`Candidate ${choice + 1} of ${found.length}, predicted IoU ${found[choice].iouScore.toFixed(2)}.`);
  });
}

/**
 * Shows what a click would give where the pointer is, in a picture; of what is asked meanwhile, only the last counts.
 *
 * @param {App} app
 * @param {import("./app.js").Pointer | null} pointer nothing where it has left the picture
 */
export async function hover(app, pointer) {
  app.pointer = pointer;
  if (!pointer && app.preview) app.preview = null;
  app.changed();
  if (app.isHovering) return;
  app.isHovering = true;
  /** @type {import("./app.js").Pointer | null} */
  let asked = null;
  while (app.pointer && app.pointer !== asked) {
    const now = (asked = app.pointer);
    const preview = await app.inTurn(() => previewOf(app, now)).catch(() => null);
    app.preview = app.pointer && app.numWaiting === 0 ? preview : null;
    app.changed();
  }
  app.isHovering = false;
}

/**
 * @param {App} app
 * @param {import("./app.js").Pointer} pointer
 */
async function previewOf(app, { point, label }) {
  if (app.numWaiting > 0 || app.media?.kind !== "picture" || app.everything) return null;
  const earlier = app.project?.saidOf(0, app.currentId)?.prompts ?? [];
  const found = app.project?.foundOf(0, app.currentId);
  const isOn = Boolean(found && isOnMask(found.runs, point[0], point[1], app.media));
  if (isOn === (label === 1)) return null; // the mask says so already
  const joined = joinPrompts([...earlier, { points: [point], labels: [label], box: null, mask: null }]);
  return (await app.engine.segment(joined, isAmbiguous(joined)))[0].runs;
}
