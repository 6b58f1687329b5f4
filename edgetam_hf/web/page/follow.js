/** Objects followed through a video. */
import { show } from "./frames_shown.js";

/** @typedef {import("./app.js").App} App */

/**
 * Follows all objects from the frame that is shown on. What is found is shown as it comes, and can be undone.
 *
 * @param {App} app
 * @param {"forward" | "back" | "both"} direction
 */
export async function follow(app, direction) {
  const { project, frameIdx: start } = app;
  if (project?.media.kind !== "video") return;
  if (project.said.length === 0) return app.say("Say what to follow first: click on an object.");
  const last = project.media.numFrames - 1;
  /** @type {{ isReverse: boolean, numFrames: number }[]} */
  const ways = [];
  if (direction !== "back" && start < last) ways.push({ isReverse: false, numFrames: last - start });
  if (direction !== "forward" && start > 0) ways.push({ isReverse: true, numFrames: start });
  const total = ways.reduce((sum, way) => sum + way.numFrames, 0);
  let done = 0;
  const isDone = await app.long(nameOf(direction), async (onProgress, signal) => {
    if (app.project !== project) return;
    const onFrame = (/** @type {import("./engine.js").FoundFrame} */ found) => {
      project.keep(found);
      show(app, found.frameIdx);
      if (found.frameIdx !== start) onProgress(++done, total);
    };
    project.beginStep("tracking");
    try {
      for (const { isReverse } of ways) {
        if (!signal.aborted) await app.engine.propagate({ start, count: null, isReverse }, onFrame, signal);
      }
    } finally {
      project.endStep();
    }
  });
  if (isDone) app.say(done < total ? `Stopped after ${done} of ${total} frames.` : `Followed over ${done} frames.`);
}

/** @param {"forward" | "back" | "both"} direction */
function nameOf(direction) {
  if (direction === "both") return "Following both ways";
  return direction === "forward" ? "Following" : "Following backwards";
}
