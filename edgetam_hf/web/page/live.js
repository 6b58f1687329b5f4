/** The camera: frames go to the engine one after the other, and are shown with what was found on them. */
import { Project } from "./project.js";

/** @typedef {import("./app.js").App} App */

/**
 * Opens the camera in place of what is open, or ends it; also while the user is still asked for it.
 *
 * @param {App} app
 */
export async function toggleLive(app) {
  if (app.stopLive) return app.stopLive();
  let isOn = true;
  const stop = () => {
    isOn = false;
    app.stopLive = null;
    app.say("The camera is off.");
  };
  app.stopLive = stop;
  await app.attempt(async () => {
    const stream = await openCamera();
    try {
      if (isOn) await run(app, stream, () => isOn);
    } finally {
      for (const track of stream.getTracks()) track.stop();
    }
  });
  if (isOn) app.stopLive = null; // it has ended by itself
  app.changed();
}

async function openCamera() {
  if (!navigator.mediaDevices) throw new Error("This page cannot use a camera: open it at localhost or over https.");
  try {
    return await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 } }, audio: false });
  } catch (error) {
    throw new Error(`There is no camera to be used here (${error instanceof Error ? error.message : error}).`);
  }
}

/**
 * @param {App} app
 * @param {MediaStream} stream
 * @param {() => boolean} isOn
 */
async function run(app, stream, isOn) {
  const video = document.createElement("video");
  Object.assign(video, { srcObject: stream, muted: true, playsInline: true });
  await video.play();
  const isReady = await app.edit(async () => {
    if (!isOn()) return;
    const media = await app.engine.startLive(video.videoWidth, video.videoHeight);
    Object.assign(app, { project: Project.begin(media), frame: null, everything: null, isEngineBehind: false });
    app.currentId = 1;
    app.say("The camera is on. Click on what is to be followed.");
  });
  const { project } = app;
  while (isReady && isOn() && app.project === project) await app.inTurn(() => receive(app, video, isOn));
}

/**
 * @param {App} app
 * @param {HTMLVideoElement} video
 * @param {() => boolean} isOn
 */
async function receive(app, video, isOn) {
  const { project } = app;
  if (!isOn()) return;
  const shown = await createImageBitmap(video);
  const found = await app.engine.receive(await createImageBitmap(shown));
  if (app.project !== project) return shown.close();
  app.frame?.close();
  project?.receive(found);
  app.frame = shown;
  app.frameIdx = app.wantedFrameIdx = found.frameIdx;
  app.changed();
}
