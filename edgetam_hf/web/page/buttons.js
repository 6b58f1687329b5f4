/** Buttons of the page that stand for commands, `data-command="undo"`. */
import { setText } from "./dom.js";
import { shownKey } from "./keyboard.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./commands.js").Command} Command */

/**
 * Gives each button its command, its name with the key, and what can be done now.
 *
 * @param {App} app
 * @param {readonly Command[]} commands
 */
export function connectButtons(app, commands) {
  const byId = new Map(commands.map((command) => [command.id, command]));
  /** @type {[HTMLButtonElement, Command][]} */
  const pairs = [];
  for (const button of document.querySelectorAll("button[data-command]")) {
    const command = byId.get(/** @type {HTMLElement} */ (button).dataset.command ?? "");
    if (!(button instanceof HTMLButtonElement) || !command) throw new Error(`no command for ${button.outerHTML}`);
    button.addEventListener("click", (event) => {
      if (event.detail > 0) button.blur(); // after a press with the mouse Space plays, and does not press again
      command.run();
    });
    button.title = titleOf(command);
    if (!button.textContent?.trim()) button.setAttribute("aria-label", command.label);
    pairs.push([button, command]);
  }
  app.listen(() => {
    for (const [button, command] of pairs) {
      const { isPossible, isOn, detail } = command;
      button.disabled = !(isPossible?.() ?? true);
      if (detail) button.title = titleOf(command);
      if (isOn) button.setAttribute("aria-pressed", String(isOn()));
    }
    const live = document.querySelector('[data-command="live"] span');
    if (live) setText(live, app.stopLive ? "Camera off" : "Camera");
  });
}

/** @param {Command} command */
function titleOf({ label, keys, detail }) {
  const what = detail?.();
  return `${label}${what ? `: ${what}` : ""} (${shownKey(keys[0])})`;
}
