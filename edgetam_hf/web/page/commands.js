/** All that can be done by a button or a key: one table, which buttons, the keyboard and the help read. */
import { addObject, chooseCandidate, chooseObject, chooseTool, currentCandidates, removeObject } from "./actions.js";
import { changeObject, removePrompts, travel } from "./actions.js";
import { closeEverything, findEverything, pickAll } from "./pick_everything.js";
import { follow } from "./follow.js";
import { followEverything } from "./follow_everything.js";
import { play, show, showPrompted } from "./frames_shown.js";
import { toggleLive } from "./live.js";
import { saveWork } from "./save.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./app.js").Tool} Tool */
/** @typedef {import("./view.js").View} View */

/**
 * @typedef {object} Command
 * @property {string} id
 * @property {string} group heading in the help
 * @property {string} label
 * @property {string[]} keys as `keyboard.js` names them
 * @property {() => void} run
 * @property {() => boolean} [isPossible]
 * @property {() => boolean} [isOn] of what can be switched on and off
 * @property {() => string | null} [detail] what it would be done to
 */

/**
 * @typedef {object} Doors what commands open
 * @property {() => void} chooseFile
 * @property {() => void} chooseMask
 * @property {() => void} showHelp
 * @property {() => void} showExports
 * @property {() => void} switchTheme
 * @property {() => void} rename
 * @property {() => boolean} cancelDrag
 * @property {() => number} pointsPerSide of everything
 */

/**
 * @param {App} app
 * @param {View} view
 * @param {Doors} doors
 * @returns {Command[]}
 */
export function commandsOf(app, view, doors) {
  return [
    ...fileCommands(app, doors),
    ...toolCommands(app, doors),
    ...objectCommands(app, doors),
    ...videoCommands(app, doors),
    ...viewCommands(app, view, doors),
  ];
}

/**
 * @param {App} app
 * @param {Doors} doors
 * @returns {Command[]}
 */
function fileCommands(app, doors) {
  const group = "Files";
  const isPossible = () => app.media !== null && app.media.kind !== "live"; // of a camera nothing is kept
  return [
    { id: "open", group, label: "Open a picture, a video or a project", keys: ["O"], run: doors.chooseFile },
    {
      id: "live", group, label: "Camera on or off", keys: ["L"], run: () => toggleLive(app),
      isOn: () => app.stopLive !== null,
    },
    { id: "save", group, label: "Save the project", keys: ["Ctrl+S"], run: () => saveWork(app), isPossible },
    { id: "export", group, label: "Export masks", keys: ["X"], run: doors.showExports, isPossible },
  ];
}

/**
 * @param {App} app
 * @param {Doors} doors
 * @returns {Command[]}
 */
function toolCommands(app, doors) {
  const group = "Clicks and boxes";
  const isPicture = () => app.media?.kind === "picture" && !app.task;
  const tool = (/** @type {Tool} */ name, /** @type {string} */ label, /** @type {string} */ key) => ({
    id: name, group, label, keys: [key], run: () => chooseTool(app, name), isOn: () => app.tool === name,
  });
  return [
    tool("on", "Click on the object", "A"),
    tool("off", "Click off the object", "S"),
    tool("box", "Draw a box", "B"),
    tool("pan", "Move the picture", "H"),
    {
      id: "undo", group, label: "Undo", keys: ["Ctrl+Z"], run: () => travel(app, "undo"),
      isPossible: () => !!app.project?.undoName && !app.stopLive, detail: () => app.project?.undoName ?? null,
    },
    {
      id: "redo", group, label: "Redo", keys: ["Ctrl+Shift+Z", "Ctrl+Y"], run: () => travel(app, "redo"),
      isPossible: () => !!app.project?.redoName && !app.stopLive, detail: () => app.project?.redoName ?? null,
    },
    {
      id: "clear", group, label: "Take back all prompts of the object here", keys: ["Backspace"],
      run: () => removePrompts(app, app.currentId),
      isPossible: () => !!app.project?.saidOf(app.frameIdx, app.currentId),
    },
    {
      id: "candidate", group, label: "Next of three candidates", keys: ["C"], run: () => nextCandidate(app),
      isPossible: () => currentCandidates(app).length > 1,
    },
    {
      id: "mask", group, label: "Mask of the object from a file", keys: ["I"], run: doors.chooseMask,
      isPossible: () => app.isOpen,
    },
    {
      id: "everything", group, label: "Find everything in the picture", keys: ["E"], isPossible: isPicture,
      isOn: () => app.everything !== null,
      run: () => (app.everything ? closeEverything(app) : findEverything(app, doors.pointsPerSide())),
    },
    {
      id: "pick-all", group, label: "Make objects of all masks", keys: ["Shift+E"], run: () => pickAll(app),
      isPossible: () => app.everything !== null,
    },
    {
      id: "stop", group, label: "Stop, or close what is open", keys: ["Escape"], run: () => escape(app, doors),
    },
  ];
}

/** @param {App} app */
function nextCandidate(app) {
  const choice = app.project?.saidOf(0, app.currentId)?.choice ?? 0;
  chooseCandidate(app, (choice + 1) % currentCandidates(app).length);
}

/**
 * @param {App} app
 * @param {Doors} doors
 */
function escape(app, doors) {
  if (doors.cancelDrag()) return;
  if (app.task || app.isPlaying) return app.stop();
  if (app.everything) return closeEverything(app);
  const notice = app.notices.at(-1);
  if (notice) app.dismiss(notice.id);
}

/**
 * @param {App} app
 * @param {Doors} doors
 * @returns {Command[]}
 */
function objectCommands(app, doors) {
  const group = "Objects";
  const isPossible = () => app.current !== null;
  const choose = (/** @type {number} */ idx) => {
    const object = app.project?.objects[idx];
    if (object) chooseObject(app, object.id);
  };
  return [
    {
      id: "new-object", group, label: "New object", keys: ["N"], run: () => addObject(app),
      isPossible: () => app.isOpen,
    },
    ...Array.from({ length: 9 }, (_, idx) => ({
      id: `object-${idx + 1}`, group, label: `Object ${idx + 1} of the list`, keys: [String(idx + 1)],
      run: () => choose(idx), isPossible: () => (app.project?.objects.length ?? 0) > idx,
    })),
    { id: "rename", group, label: "Rename the object", keys: ["F2"], run: doors.rename, isPossible },
    {
      id: "visible", group, label: "Show or hide the object", keys: ["V"], isPossible,
      run: () => changeObject(app, app.currentId, { isVisible: !app.current?.isVisible }),
    },
    {
      id: "remove", group, label: "Remove the object", keys: ["Delete"], isPossible,
      run: () => removeObject(app, app.currentId),
    },
  ];
}

/**
 * @param {App} app
 * @param {Doors} doors
 * @returns {Command[]}
 */
function videoCommands(app, doors) {
  const group = "Videos";
  const isPossible = () => app.media?.kind === "video";
  const step = (/** @type {number} */ by) => () => {
    app.isPlaying = false;
    show(app, app.wantedFrameIdx + by);
  };
  const command = (
    /** @type {string} */ id, /** @type {string} */ label, /** @type {string[]} */ keys, /** @type {() => void} */ run,
  ) => ({ id, group, label, keys, run, isPossible });
  return [
    { ...command("play", "Play or pause", ["Space"], () => play(app)), isOn: () => app.isPlaying },
    command("next", "Next frame", ["ArrowRight", "."], step(1)),
    command("previous", "Previous frame", ["ArrowLeft", ","], step(-1)),
    command("next-10", "Ten frames on", ["Shift+ArrowRight"], step(10)),
    command("previous-10", "Ten frames back", ["Shift+ArrowLeft"], step(-10)),
    command("first", "First frame", ["Home"], step(-Infinity)),
    command("last", "Last frame", ["End"], step(Infinity)),
    command("next-prompted", "Next frame with a prompt", ["]"], () => showPrompted(app, 1)),
    command("previous-prompted", "Previous frame with a prompt", ["["], () => showPrompted(app, -1)),
    command("follow", "Follow to the end", ["F"], () => follow(app, "forward")),
    command("follow-back", "Follow back to the start", ["R"], () => follow(app, "back")),
    command("follow-both", "Follow both ways", ["G"], () => follow(app, "both")),
    command("follow-everything", "Find and follow everything to the end", ["Shift+F"], () => (
      followEverything(app, doors.pointsPerSide())
    )),
  ];
}

/**
 * @param {App} app
 * @param {View} view
 * @param {Doors} doors
 * @returns {Command[]}
 */
function viewCommands(app, view, doors) {
  const group = "View";
  const isPossible = () => app.isOpen;
  return [
    { id: "zoom-in", group, label: "Zoom in", keys: ["+", "="], run: () => view.zoom(1.4), isPossible },
    { id: "zoom-out", group, label: "Zoom out", keys: ["-"], run: () => view.zoom(1 / 1.4), isPossible },
    { id: "fit", group, label: "Whole picture", keys: ["0"], run: () => view.fit(), isPossible },
    {
      id: "masks", group, label: "Show or hide all masks", keys: ["M"], isPossible, isOn: () => app.areMasksShown,
      run: () => {
        app.areMasksShown = !app.areMasksShown;
        app.changed();
      },
    },
    { id: "theme", group, label: "Light or dark", keys: ["D"], run: doors.switchTheme },
    { id: "help", group, label: "Help: keys and gestures", keys: ["?"], run: doors.showHelp },
  ];
}
