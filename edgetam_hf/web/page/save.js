/** Files that the user takes home: exports, and the project itself. */
import { exportFile } from "./exports.js";
import { stemOf } from "./file_names.js";
import { saveProject } from "./project_file.js";

/** @typedef {import("./app.js").App} App */

/**
 * Writes a file of what was found, and gives it to the user.
 *
 * @param {App} app
 * @param {string} kind one of `EXPORTS`
 * @param {string} label
 */
export function exportWork(app, kind, label) {
  const { project } = app;
  if (!project) return;
  return app.long(`Exporting: ${label}`, async (onProgress, signal) => {
    try {
      const { name, blob } = await exportFile(kind, project.toData(), app.engine, onProgress, signal);
      download(name, blob);
      app.say(`${name} is saved.`);
    } catch (error) {
      if (!signal.aborted) throw error;
      app.say("The export was stopped.");
    }
  });
}

/** @param {App} app */
export function saveWork(app) {
  return app.attempt(async () => {
    if (!app.project) return;
    const name = `${stemOf(app.project.media.name)}.edgetam.json`;
    download(name, saveProject(app.project.toData()));
    app.say(`${name} is saved. Open it again beside ${app.project.media.name}.`);
  });
}

/**
 * @param {string} name
 * @param {Blob} blob
 */
function download(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
