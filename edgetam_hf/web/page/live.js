/** The camera: frames go to the engine one after the other, and are shown with what was found on them. */
import { Project } from "./project.js";

/** @typedef {import("./app.js").App} App */

/**
 * Opens the camera in place of what is open, or ends it.
 *
 * @param {App} app
 */
export async function toggleLive(app) {
  if (app.stopLive) return app.stopLive();
  await app.attempt(async () => {
    const stream = await openCamera();
    try {
      await run(app, stream);
    } finally {
      for (const track of stream.getTracks()) track.stop();
    }
  });
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
 */
async function run(app, stream) {
  const video = document.createElement("video");
  Object.assign(video, { srcObject: stream, muted: true, playsInline: true });
  await video.play();
  let isOn = true;
  const isReady = await app.edit(async () => {
    const media = await app.engine.startLive(video.videoWidth, video.videoHeight);
    Object.assign(app, { project: Project.begin(media), frame: null, everything: null, isEngineBehind: false });
    app.currentId = 1;
    app.say("The camera is on. Click on what is to be followed.");
  });
  if (!isReady) return;
  app.stopLive = () => {
    isOn = false;
    app.stopLive = null;
    app.say("The camera is off.");
  };
  const { project } = app;
  try {
    while (isOn && app.project === project) await app.inTurn(() => receive(app, video));
  } finally {
    app.stopLive = null;
    app.changed();
  }
}

/**
 * @param {App} app
 * @param {HTMLVideoElement} video
 */
async function receive(app, video) {
  const { project } = app;
  if (!app.stopLive) return;
  const shown = await createImageBitmap(video);
  const found = await app.engine.receive(await createImageBitmap(shown));
  if (app.project !== project) return shown.close();
  app.frame?.close();
  project?.receive(found);
  app.frame = shown;
  app.frameIdx = app.wantedFrameIdx = found.frameIdx;
  app.changed();
}
