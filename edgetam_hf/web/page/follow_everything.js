/**
 * Everything in a video: objects are discovered, followed and ended, as `track_everything` does it in Python.
 *
 *     a frame is followed -> objects that have to go end -> if it is time, the frame is searched, and objects begin
 *
 * It is made of what every engine can do, so that both find the same.
 */
import { show } from "./frames_shown.js";
import { coveredBy, lookAt, OPTIONS, uncoveredMasks } from "./everything_video.js";
import { tellAll } from "./tell.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./engine.js").Found} Found */
/** @typedef {import("./project.js").Project} Project */

/**
 * @typedef {object} Work following everything, under way
 * @property {App} app
 * @property {Project} project
 * @property {number} pointsPerSide of a search
 * @property {AbortSignal} signal
 * @property {number} numBegun objects that were discovered
 * @property {number} numEnded
 * @property {boolean} isFull whether the user was told that there cannot be more objects
 */

/**
 * Finds and follows everything from the frame that is shown on, or behind it if it was the last that was followed so.
 * What is found is shown as it comes, and can be undone.
 *
 * @param {App} app
 * @param {number} pointsPerSide more points find smaller things, and take longer
 */
export async function followEverything(app, pointsPerSide) {
  const { project, frameIdx } = app;
  if (project?.media.kind !== "video") return;
  const first = project.everything.frameIdx === frameIdx ? frameIdx + 1 : frameIdx;
  const total = project.media.numFrames - first;
  if (total === 0) return app.say("Everything was followed to the end.");
  /** @type {Work | null} */
  let work = null;
  let done = 0;
  const isDone = await app.long("Following everything", async (onProgress, signal) => {
    if (app.project !== project) return;
    if (app.isEngineBehind) await tellAll(app);
    work = { app, project, pointsPerSide, signal, numBegun: 0, numEnded: 0, isFull: false };
    project.beginStep("following everything");
    try {
      for (onProgress(0, total); done < total && !signal.aborted; onProgress(++done, total)) {
        if (!(await followFrame(work, first + done))) break;
      }
    } catch (error) {
      app.isEngineBehind = true; // it may have been told half of a change
      throw error;
    } finally {
      project.endStep();
    }
  });
  if (isDone && work) app.say(summary(work, done, total));
}

/**
 * @param {Work} work
 * @param {number} done frames
 * @param {number} total
 */
function summary({ project, numBegun, numEnded }, done, total) {
  const frames = done < total ? `Stopped after ${done} of ${total} frames` : `Followed everything over ${done} frames`;
  return `${frames}: ${numBegun} new objects, ${numEnded} ended, ${project.numFollowed} go on.`;
}

/**
 * Follows all objects on a frame, and searches it if it is time. If that is stopped, which is `false`, nothing changes.
 *
 * @param {Work} work
 * @param {number} frameIdx
 */
async function followFrame(work, frameIdx) {
  const { app, project, signal } = work;
  const { media } = project;
  const followed = await resultsOn(work, frameIdx);
  const seen = lookAt(followed, media, OPTIONS.mergeIou);
  const [state, ended] = project.everything.after(frameIdx, seen, OPTIONS);
  let objects = followed.filter(({ objectId }) => !ended.includes(objectId));
  const isSearched = state.isDue(seen, OPTIONS) && hasRoom(work, ended.length);
  const masks = isSearched ? await search(work, frameIdx, objects, ended) : [];
  if (isSearched && signal.aborted) return false;

  for (const id of ended) await app.engine.removeObject(id);
  const ids = project.idsToDiscover(masks.length);
  const begun = new Map(ids.map((id, idx) => [id, masks[idx]]));
  if (begun.size > 0) objects = (await app.engine.addMasks(frameIdx, begun)).objects;
  const { uncovered } = lookAt(objects, media, OPTIONS.mergeIou);
  project.discover(frameIdx, begun, ended, isSearched ? state.discovered(ids, uncovered) : state);
  if (objects.length > 0) project.keep({ frameIdx, objects });
  if (isSearched) app.say(`Frame ${frameIdx + 1}: ${begun.size} new objects.`);
  work.numBegun += begun.size;
  work.numEnded += ended.length;
  show(app, frameIdx);
  return true;
}

/**
 * What is found on a frame of the objects that there are.
 *
 * @param {Work} work
 * @param {number} frameIdx
 */
async function resultsOn({ app, project }, frameIdx) {
  /** @type {Found[]} */
  const objects = [];
  const never = new AbortController().signal; // a frame that was begun is finished
  if (project.numFollowed > 0) {
    const range = { start: frameIdx, count: 0, isReverse: false };
    await app.engine.propagate(range, (found) => objects.push(...found.objects), never);
  }
  return objects;
}

/**
 * Whether there can be more objects; the user is told once if there cannot.
 *
 * @param {Work} work
 * @param {number} numEnded objects that make room
 */
function hasRoom(work, numEnded) {
  const { app, project, isFull } = work;
  const hasSome = project.numFollowed - numEnded < OPTIONS.maxObjects;
  if (!hasSome && !isFull) {
    app.notify(`${OPTIONS.maxObjects} objects are followed, the most at a time: others begin once some have ended.`);
  }
  work.isFull ||= !hasSome;
  return hasSome;
}

/**
 * Masks of a frame that no object covers.
 *
 * @param {Work} work
 * @param {number} frameIdx
 * @param {Found[]} objects that go on
 * @param {number[]} ended ids of objects
 */
async function search({ app, project, pointsPerSide, signal }, frameIdx, objects, ended) {
  app.say(`Looking for new objects on frame ${frameIdx + 1} …`);
  const found = await app.engine.everything({ pointsPerSide, frameIdx }, () => {}, signal);
  const goOn = new Set(objects.map(({ objectId }) => objectId));
  // also what was found earlier, of objects that are not followed any more
  const earlier = project.found(frameIdx).filter(({ objectId }) => !goOn.has(objectId) && !ended.includes(objectId));
  const covered = coveredBy([...objects, ...earlier], project.media);
  const numFree = OPTIONS.maxObjects - project.numFollowed + ended.length;
  return uncoveredMasks(found.map(({ runs }) => runs), covered, project.media, OPTIONS, numFree);
}
