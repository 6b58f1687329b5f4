/** Opening of pictures, videos and projects. */
import { fetchFrame } from "./frames_shown.js";
import { Project } from "./project.js";
import { readProject } from "./project_file.js";
import { tellAll } from "./tell.js";
import { savedWork } from "./autosave.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./engine.js").Media} Media */
/** @typedef {import("./project.js").ProjectData} ProjectData */

const PROJECT_FILE = /\.json$/i;

/**
 * Opens a picture, a video or a project in place of what is open; where that fails, all stays as it is.
 *
 * @param {App} app
 * @param {File | null} file `null` for the file that the server was started with
 */
export async function open(app, file) {
  if (file && PROJECT_FILE.test(file.name)) return openProject(app, file);
  app.stopLive?.();
  const name = file?.name ?? app.settings.media ?? "the file";
  const isDone = await app.long(`Opening ${name}`, async (onProgress) => {
    const media = await app.engine.open(file, onProgress);
    await begin(app, Project.begin(media));
  }, false);
  if (isDone && app.media) await offerWork(app, app.media);
}

/**
 * @param {App} app
 * @param {Project} project
 */
async function begin(app, project) {
  const frame = await fetchFrame(app, project, 0);
  Object.assign(app, { project, frame, frameIdx: 0, wantedFrameIdx: 0, everything: null, isEngineBehind: false });
  app.notices = []; // they speak of what was open before
  app.currentId = project.objects[0]?.id ?? 0;
  if (app.tool === "pan") app.tool = "on";
  app.say(`${project.media.name} is open. Click on an object, or drag a box around it.`);
}

/**
 * Opens a saved project: at once if its picture or video is open, else as soon as it will be.
 *
 * @param {App} app
 * @param {File} file
 */
async function openProject(app, file) {
  await app.attempt(async () => {
    const data = await readProject(file);
    if (app.media && isSameMedia(app.media, data.media)) return restore(app, data);
    app.waiting = data;
    app.notify(`${file.name} is work on ${data.media.name}. Open ${data.media.name} to go on with it.`);
  });
}

/**
 * Goes on with a project that waits for this file, or offers the work that was kept of it.
 *
 * @param {App} app
 * @param {Media} media
 */
async function offerWork(app, media) {
  const { waiting } = app;
  if (waiting && isSameMedia(media, waiting.media)) {
    app.waiting = null;
    return restore(app, waiting);
  }
  const saved = await savedWork(media).catch(() => null);
  if (!saved) return;
  const [objects, frames] = [saved.objects.length, saved.frames.length];
  app.notify(`Your last work on ${media.name} was kept: ${count(objects, "object")} on ${count(frames, "frame")}.`, [
    { label: "Restore it", run: () => restore(app, saved) },
    { label: "Begin anew", run: () => {} },
  ]);
}

/**
 * @param {number} number
 * @param {string} noun
 */
function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/**
 * @param {App} app
 * @param {ProjectData} data
 */
async function restore(app, data) {
  const { media } = app;
  if (!media) return;
  const former = app.project;
  const isDone = await app.long("Restoring", async (onProgress) => {
    app.project = Project.fromData({ ...data, media });
    app.currentId = data.objects[0]?.id ?? 0;
    try {
      await tellAll(app, onProgress);
    } catch (error) {
      app.project = former;
      throw error;
    }
  }, false);
  if (isDone) app.say(`Work on ${media.name} is restored.`);
}

/**
 * @param {Media} one
 * @param {Media} other
 */
function isSameMedia(one, other) {
  return one.width === other.width && one.height === other.height && one.numFrames === other.numFrames;
}
