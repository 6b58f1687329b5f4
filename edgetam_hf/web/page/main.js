/** The page, put together: settings, the engine, and every part that draws or listens. */
import { App } from "./app.js";
import { keepWork, lastMedia } from "./autosave.js";
import { connectButtons } from "./buttons.js";
import { commandsOf } from "./commands.js";
import { drawIcons, element, make } from "./dom.js";
import { startEngine } from "./engine.js";
import { EXPORTS } from "./exports.js";
import { listenToFiles } from "./files.js";
import { Gestures } from "./gestures.js";
import { makeHelp } from "./help.js";
import { listenToKeys } from "./keyboard.js";
import { open } from "./media.js";
import { Notices } from "./notices.js";
import { Panel } from "./panel.js";
import { exportWork } from "./save.js";
import { recallTheme, switchTheme } from "./theme.js";
import { Timeline } from "./timeline.js";
import { View } from "./view.js";

recallTheme();
drawIcons();
try {
  const settings = await readSettings();
  const app = new App(await startEngine(settings), settings);
  await connect(app);
} catch (error) {
  const why = error instanceof Error ? error.message : String(error);
  element("status", HTMLElement).textContent = `The model could not be started. ${why}`;
  element("welcome", HTMLElement).replaceChildren(
    make("h1", { textContent: "The model could not be started" }),
    make("p", { textContent: why }),
    make("button", { className: "primary", textContent: "Try again", onclick: () => location.reload() }),
  );
}

/** @returns {Promise<import("./engine.js").Settings>} */
async function readSettings() {
  const answer = await fetch("settings.json").catch(() => null);
  if (!answer?.ok) throw new Error("Its settings cannot be read: start `edgetam demo` again, and reload this page.");
  return answer.json();
}

/** @param {App} app */
async function connect(app) {
  const view = new View(app, element("canvas", HTMLCanvasElement));
  const gestures = new Gestures(app, view);
  const panel = new Panel(app);
  const [timeline, notices] = [new Timeline(app), new Notices(app)];
  /** @type {import("./commands.js").Command[]} */
  const commands = commandsOf(app, view, {
    chooseFile: () => element("file", HTMLInputElement).click(),
    chooseMask: () => element("mask-file", HTMLInputElement).click(),
    showHelp: () => showHelp(),
    showExports: () => element("exports", HTMLDialogElement).showModal(),
    switchTheme: () => {
      switchTheme();
      app.changed();
    },
    rename: () => panel.rename(),
    cancelDrag: () => gestures.cancel(),
    pointsPerSide: () => Number(element("points-per-side", HTMLSelectElement).value),
  });
  const showHelp = makeHelp(commands);
  connectButtons(app, commands);
  listenToKeys(app, commands, gestures, view);
  listenToFiles(app);
  makeExports(app);
  keepWork(app);
  app.listen(() => {
    document.body.dataset.kind = app.media?.kind ?? "";
    document.body.dataset.tool = app.everything ? "pick" : app.tool;
    element("welcome", HTMLElement).hidden = app.project !== null;
    describeCanvas(app);
    view.draw();
    panel.draw();
    timeline.draw();
    notices.draw();
  });
  for (const button of document.querySelectorAll("dialog [data-close]")) {
    button.addEventListener("click", () => button.closest("dialog")?.close());
  }
  element("model", HTMLElement).textContent = app.engine.description;
  for (const part of document.querySelectorAll("[inert]")) part.removeAttribute("inert");
  element("loading", HTMLElement).hidden = true;
  element("begin", HTMLElement).hidden = false;
  document.body.dataset.ready = "";
  app.say("Ready. Open a picture or a video.");
  if (app.settings.media) await open(app, null);
  else await recallWork(app);
}

/** @param {App} app */
async function recallWork(app) {
  const media = await lastMedia().catch(() => null);
  if (media) app.notify(`Your last work, on ${media.name}, was kept. Open the same file to go on with it.`);
}

/** @param {App} app */
function makeExports(app) {
  const dialog = element("exports", HTMLDialogElement);
  const buttons = EXPORTS.map(({ kind, label, needs }) => {
    const run = () => {
      dialog.close();
      exportWork(app, kind, label);
    };
    const button = make("button", { type: "button", textContent: label, onclick: run, "data-kind": kind });
    app.listen(() => {
      button.hidden = needs !== "any" && needs !== app.media?.kind;
    });
    return button;
  });
  element("export-list", HTMLElement).replaceChildren(...buttons);
}

/** @param {App} app */
function describeCanvas(app) {
  const { media, frameIdx, project } = app;
  const canvas = element("canvas", HTMLCanvasElement);
  const found = project?.found(frameIdx).map(({ objectId }) => project.object(objectId)?.name) ?? [];
  const name = media?.name ?? "No picture is open";
  const what = media?.kind === "video" ? `Frame ${frameIdx + 1} of ${name}` : name;
  const label = `${what}. ${found.length > 0 ? `Masks: ${found.join(", ")}.` : "No masks."}`;
  if (canvas.getAttribute("aria-label") !== label) canvas.setAttribute("aria-label", label);
}
