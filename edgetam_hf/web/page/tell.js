/** What was said in the document, told to the engine, and its answers kept in the document. */
import { UncertainError } from "./engine.js";
import { differences, joinPrompts } from "./project.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./engine.js").Engine} Engine */
/** @typedef {import("./engine.js").Found} Found */
/** @typedef {import("./engine.js").OnProgress} OnProgress */
/** @typedef {import("./engine.js").Prompt} Prompt */
/** @typedef {import("./project.js").Project} Project */
/** @typedef {import("./project.js").Said} Said */

/**
 * Tells the engine what has changed since an earlier list of what was said, and keeps its answers.
 *
 * @param {App} app with an open project
 * @param {readonly Said[]} before
 */
export async function tellChanges(app, before) {
  const project = openProject(app);
  if (project.media.kind === "picture") return segmentPicture(app, before);
  if (app.isEngineBehind) return tellAll(app);
  const changes = differences(before, project.said);
  for (const id of changes.removed) project.forgetObject(id);
  return tellVideo(app, before, {
    found: (found) => project.keep(found),
    cleared: (frameIdx, objectId) => project.forget(frameIdx, objectId),
  });
}

/**
 * Tells the engine that a step was undone or done again. The results have come with the step.
 *
 * @param {App} app with an open project
 * @param {readonly Said[]} before
 */
export async function tellStep(app, before) {
  const project = openProject(app);
  if (project.media.kind === "picture") return;
  if (app.isEngineBehind) return tellAll(app);
  return tellVideo(app, before, { found() {}, cleared() {} });
}

/**
 * Tells the engine everything anew; results that are there stay as they are.
 *
 * @param {App} app with an open project
 * @param {OnProgress} [onProgress]
 */
export async function tellAll(app, onProgress) {
  const project = openProject(app);
  if (project.media.kind === "picture") return;
  app.isEngineBehind = true;
  await app.engine.reset();
  const calls = project.said.flatMap(({ frameIdx, objectId, prompts }) => (
    prompts.map((prompt) => ({ frameIdx, objectId, prompt }))
  ));
  let numTold = 0;
  for (const call of together(calls)) {
    onProgress?.(numTold, calls.length);
    numTold += call.length;
    const { frameIdx, objects } = await tell(app.engine, call);
    const news = objects.filter((found) => !project.foundOf(frameIdx, found.objectId));
    if (news.length > 0) project.keep({ frameIdx, objects: news });
  }
  app.isEngineBehind = false;
}

/**
 * @param {App} app
 * @returns {Project}
 */
function openProject({ project }) {
  if (!project) throw new Error("open a picture or a video first");
  return project;
}

/**
 * @typedef {object} Answers what becomes of the answers of the engine
 * @property {(found: import("./engine.js").FoundFrame) => void} found
 * @property {(frameIdx: number, objectId: number) => void} cleared
 */

/**
 * @param {App} app
 * @param {readonly Said[]} before
 * @param {Answers} answers
 */
async function tellVideo(app, before, answers) {
  let isHalfTold = false;
  try {
    for (const call of callsFor(app.engine, openProject(app), before, answers)) {
      await call();
      isHalfTold = true;
    }
  } catch (error) {
    app.isEngineBehind = isHalfTold || error instanceof UncertainError;
    throw error;
  }
}

/**
 * The calls that bring an engine from what was said before to what is said now.
 *
 * @param {Engine} engine
 * @param {Project} project
 * @param {readonly Said[]} before
 * @param {Answers} answers
 */
function callsFor(engine, project, before, answers) {
  const { removed, changed } = differences(before, project.said);
  const calls = removed.map((id) => () => engine.removeObject(id));
  /** @type {Telling[]} */
  const tellings = [];
  for (const { frameIdx, objectId, prompts } of changed) {
    const earlier = before.find((said) => said.frameIdx === frameIdx && said.objectId === objectId)?.prompts ?? [];
    const isMore = earlier.every((prompt, idx) => prompt === prompts[idx]);
    if (!isMore && !prompts[0]?.mask) {
      calls.push(async () => {
        const found = await engine.clearPrompts(frameIdx, objectId);
        answers.cleared(frameIdx, objectId);
        answers.found(found);
      });
    }
    const news = isMore ? prompts.slice(earlier.length) : prompts;
    tellings.push(...news.map((prompt) => ({ frameIdx, objectId, prompt })));
  }
  for (const telling of together(tellings)) calls.push(async () => answers.found(await tell(engine, telling)));
  return calls;
}

/** @typedef {{ frameIdx: number, objectId: number, prompt: Prompt }} Telling a prompt that an engine has to be told */

/**
 * What can be told in one call: masks of several objects on a frame, and else a single prompt.
 *
 * @param {readonly Telling[]} tellings
 */
function together(tellings) {
  /** @type {Telling[][]} */
  const calls = [];
  for (const telling of tellings) {
    const last = calls.at(-1);
    const isLike = (/** @type {Telling} */ { frameIdx, objectId, prompt }) => (
      prompt.mask !== null && frameIdx === telling.frameIdx && objectId !== telling.objectId
    );
    if (last && telling.prompt.mask && last.every(isLike)) last.push(telling);
    else calls.push([telling]);
  }
  return calls;
}

/**
 * @param {Engine} engine
 * @param {Telling[]} call
 */
function tell(engine, call) {
  const [{ frameIdx, objectId, prompt }] = call;
  if (call.length === 1) return engine.addPrompt(frameIdx, objectId, prompt);
  const masks = call.map((one) => /** @type {[number, Uint32Array]} */ ([one.objectId, one.prompt.mask]));
  return engine.addMasks(frameIdx, new Map(masks));
}

/**
 * @param {App} app
 * @param {readonly Said[]} before
 */
async function segmentPicture(app, before) {
  const project = openProject(app);
  const { removed, changed } = differences(before, project.said);
  for (const objectId of [...removed, ...changed.map((change) => change.objectId)]) {
    const said = project.saidOf(0, objectId);
    if (!said) {
      project.forget(0, objectId);
      continue;
    }
    const candidates = await candidatesOf(app, said.prompts);
    keepChoice(app, objectId, candidates);
  }
}

/**
 * Keeps the candidate of an object of a picture that is chosen.
 *
 * @param {App} app
 * @param {number} objectId
 * @param {Found[]} candidates
 */
export function keepChoice(app, objectId, candidates) {
  const project = openProject(app);
  const choice = project.saidOf(0, objectId)?.choice ?? 0;
  const found = candidates[Math.min(choice, candidates.length - 1)];
  project.keep({ frameIdx: 0, objects: [{ ...found, objectId }] });
}

/**
 * The candidates of what was said of an object of a picture, best first; one alone where it is not ambiguous.
 *
 * @param {App} app
 * @param {readonly Prompt[]} prompts
 * @returns {Promise<Found[]>}
 */
export async function candidatesOf(app, prompts) {
  const known = app.candidates.get(prompts);
  if (known) return known;
  const joined = joinPrompts(prompts);
  const found = await app.engine.segment(joined, isAmbiguous(joined));
  app.candidates.set(prompts, found);
  return found;
}

/**
 * Whether a prompt can mean several things, a part or the whole: a single click.
 *
 * @param {Prompt} prompt
 */
export function isAmbiguous({ points, box, mask }) {
  return points.length === 1 && !box && !mask;
}
