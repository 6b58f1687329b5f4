/** The status line, the progress of what takes long, and notices. */
import { element, iconButton, make, setText } from "./dom.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./app.js").Notice} Notice */

const BYTES = 1e6; // a total from here on counts bytes, of which people want no number

export class Notices {
  #app;
  #status = element("status", HTMLElement);
  #task = element("task", HTMLElement);
  #progress = element("progress", HTMLProgressElement);
  #stop = element("stop", HTMLButtonElement);
  #notices = element("notices", HTMLElement);
  /** @type {Map<number, HTMLElement>} */
  #shown = new Map();

  /** @param {App} app */
  constructor(app) {
    this.#app = app;
    this.#stop.addEventListener("click", () => app.stop());
  }

  draw() {
    const { task, status, numWaiting, media } = this.#app;
    setText(this.#status, status);
    document.body.toggleAttribute("data-busy", numWaiting > 0);
    this.#task.hidden = !task;
    if (task) {
      const { done, total } = task;
      if (total > 0) [this.#progress.max, this.#progress.value] = [total, done];
      else this.#progress.removeAttribute("value");
      setText(element("task-name", HTMLElement), describe(task));
      this.#stop.hidden = !task.controller;
      this.#stop.disabled = Boolean(task.controller?.signal.aborted);
    }
    const title = media ? `${media.name} · ${media.width} × ${media.height}` : "";
    setText(element("media-name", HTMLElement), title);
    document.title = media ? `${media.name} · EdgeTAM` : "EdgeTAM";
    this.#drawNotices();
  }

  #drawNotices() {
    const { notices } = this.#app;
    for (const [id, shown] of this.#shown) {
      if (notices.some((notice) => notice.id === id)) continue;
      shown.remove();
      this.#shown.delete(id);
    }
    for (const notice of notices) {
      if (this.#shown.has(notice.id)) continue;
      const made = this.#makeNotice(notice);
      this.#shown.set(notice.id, made);
      this.#notices.append(made);
    }
  }

  /** @param {Notice} notice */
  #makeNotice({ id, text, isError, choices }) {
    const buttons = choices.map(({ label, run }) => make("button", {
      type: "button", textContent: label,
      onclick: () => {
        this.#app.dismiss(id);
        run();
      },
    }));
    const close = iconButton("close", "Dismiss", () => this.#app.dismiss(id));
    const settings = { className: isError ? "notice is-error" : "notice", role: isError ? "alert" : "status" };
    return make("div", settings, make("p", { textContent: text }), ...buttons, close);
  }
}

/** @param {import("./app.js").Task} task */
function describe({ name, done, total }) {
  if (total === 0) return `${name} …`;
  return total < BYTES ? `${name}: ${done} of ${total}` : `${name}: ${Math.floor((100 * done) / total)} %`;
}
