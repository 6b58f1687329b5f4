/** Everything in a picture: its masks, of which those that are picked become objects. */
import { freeColour } from "./colours.js";
import { areaOf, isOnMask } from "./runs.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./engine.js").Found} Found */

/**
 * Finds all that is in the picture.
 *
 * @param {App} app
 * @param {number} pointsPerSide more points find smaller things, and take longer
 */
export async function findEverything(app, pointsPerSide) {
  if (app.media?.kind !== "picture") return;
  await app.long("Finding everything", async (onProgress, signal) => {
    const found = await app.engine.everything({ pointsPerSide, frameIdx: 0 }, onProgress, signal);
    if (found.length === 0) return app.say(signal.aborted ? "Stopped." : "Nothing was found.");
    /** @type {Map<Found, number[]>} */
    const colours = new Map();
    for (const one of found) colours.set(one, freeColour([...colours.values()]));
    app.everything = { found, hovered: null, colours };
    app.say(`${found.length} masks. Click on those that you want.`);
  });
}

/**
 * Shows which mask a click would pick: the smallest one at a pixel.
 *
 * @param {App} app
 * @param {number[] | null} point
 */
export function hoverEverything(app, point) {
  if (!app.everything) return;
  const hovered = point && smallestAt(app, point);
  if (hovered === app.everything.hovered) return;
  app.everything.hovered = hovered;
  app.changed();
}

/**
 * Makes an object of the mask at a pixel.
 *
 * @param {App} app
 * @param {number[] | null} point
 */
export function pickEverything(app, point) {
  const found = point && smallestAt(app, point);
  if (!found || !app.everything) return;
  pick(app, [found]);
}

/**
 * Makes an object of each mask that is left.
 *
 * @param {App} app
 */
export function pickAll(app) {
  pick(app, app.everything?.found ?? []);
  app.everything = null;
  app.say("");
}

/** @param {App} app */
export function closeEverything(app) {
  app.everything = null;
  app.changed();
}

/**
 * @param {App} app
 * @param {Found[]} picked
 */
function pick(app, picked) {
  const { project, everything } = app;
  if (!project || !everything) return;
  for (const found of picked) {
    const isFree = app.current && !project.saidOf(0, app.currentId);
    const id = isFree ? app.currentId : project.addObject().id;
    project.addPrompt(0, id, { points: [], labels: [], box: null, mask: found.runs });
    const said = project.saidOf(0, id);
    if (said) app.candidates.set(said.prompts, [found]); // the mask stays as it was picked
    project.keep({ frameIdx: 0, objects: [{ ...found, objectId: id }] });
    app.currentId = id;
  }
  everything.found = everything.found.filter((found) => !picked.includes(found));
  everything.hovered = null;
  if (everything.found.length === 0) app.everything = null;
  app.say(`${picked.length === 1 ? app.current?.name : `${picked.length} objects`} picked.`);
}

/**
 * @param {App} app
 * @param {number[]} point
 */
function smallestAt(app, [x, y]) {
  const { everything, media } = app;
  const there = media ? (everything?.found ?? []).filter(({ runs }) => isOnMask(runs, x, y, media)) : [];
  return there.sort((one, other) => areaOf(one.runs) - areaOf(other.runs))[0] ?? null;
}
