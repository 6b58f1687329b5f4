/** Which frame is shown: asked for, fetched, drawn. Of what is asked meanwhile, only the last counts. */

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./project.js").Project} Project */

const MOST_FRAMES = 12; // bitmaps that are kept, for playing and for steps back

/** @type {WeakMap<Project, Map<number, Promise<ImageBitmap>>>} */
const stores = new WeakMap();

/**
 * A frame of what is open.
 *
 * @param {App} app
 * @param {Project} project
 * @param {number} frameIdx
 * @returns {Promise<ImageBitmap>}
 */
export function fetchFrame(app, project, frameIdx) {
  /** @type {Map<number, Promise<ImageBitmap>>} */
  const store = stores.get(project) ?? new Map();
  stores.set(project, store);
  const known = store.get(frameIdx);
  const frame = known ?? app.engine.frame(frameIdx);
  store.delete(frameIdx);
  store.set(frameIdx, frame);
  if (!known) frame.catch(() => store.delete(frameIdx));
  for (const [idx, old] of store) {
    if (store.size <= MOST_FRAMES) break;
    store.delete(idx);
    old.then((bitmap) => bitmap !== app.frame && bitmap.close(), () => {});
  }
  return frame;
}

/**
 * Shows a frame as soon as it is there; a frame outside of the video is the nearest one.
 *
 * @param {App} app
 * @param {number} frameIdx
 */
export async function show(app, frameIdx) {
  const { project } = app;
  if (!project || project.media.kind === "live") return;
  const isAtWork = app.wantedFrameIdx !== app.frameIdx;
  app.wantedFrameIdx = Math.max(0, Math.min(project.media.numFrames - 1, frameIdx));
  app.changed();
  if (!isAtWork) await app.attempt(() => catchUp(app, project));
}

/**
 * @param {App} app
 * @param {Project} project
 */
async function catchUp(app, project) {
  try {
    while (app.project === project && app.frameIdx !== app.wantedFrameIdx) {
      const wanted = app.wantedFrameIdx;
      const frame = await fetchFrame(app, project, wanted);
      if (app.project !== project) return;
      [app.frame, app.frameIdx, app.preview] = [frame, wanted, null];
      app.changed();
    }
  } catch (error) {
    app.wantedFrameIdx = app.frameIdx;
    throw error;
  }
}

/**
 * The next frame on which something was said, or the one before.
 *
 * @param {App} app
 * @param {1 | -1} direction
 */
export async function showPrompted(app, direction) {
  const frames = app.project?.promptedFrames() ?? [];
  const next = direction > 0
    ? frames.find((frameIdx) => frameIdx > app.wantedFrameIdx)
    : frames.findLast((frameIdx) => frameIdx < app.wantedFrameIdx);
  if (next !== undefined) await show(app, next);
  else app.say(`There is no prompt ${direction > 0 ? "after" : "before"} this frame.`);
}

/**
 * Plays from the frame that is shown, or from the start at the end; frames that come too late are left out.
 *
 * @param {App} app
 */
export async function play(app) {
  const { project } = app;
  if (project?.media.kind !== "video") return;
  if (app.isPlaying || app.task) return app.stop();
  const { numFrames, frameRate } = project.media;
  app.stop();
  app.isPlaying = true;
  if (app.frameIdx >= numFrames - 1) await show(app, 0);
  const [first, started] = [app.frameIdx, performance.now()];
  while (app.isPlaying && app.project === project && app.frameIdx < numFrames - 1) {
    const due = first + Math.floor(((performance.now() - started) / 1000) * (frameRate || 25));
    if (due > app.frameIdx) {
      await show(app, due);
      if (app.frameIdx < Math.min(due, numFrames - 1)) break; // an error, which the page has told
      fetchFrame(app, project, Math.min(app.frameIdx + 1, numFrames - 1)).catch(() => {});
    }
    await new Promise(requestAnimationFrame);
  }
  app.isPlaying = false;
  app.changed();
}
