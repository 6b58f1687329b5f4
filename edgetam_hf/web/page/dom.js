/** Small helpers for elements of the page. */

/**
 * The element with an id.
 *
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
export function element(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`the page has no ${type.name} with the id ${id}`);
  return found;
}

/**
 * A new element.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [settings] properties, and attributes where the name has a hyphen
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, settings = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(settings)) {
    if (name.includes("-")) made.setAttribute(name, String(value));
    else /** @type {any} */ (made)[name] = value;
  }
  made.append(...children);
  return made;
}

/**
 * An icon of the page's own set, which says nothing to a screen reader.
 *
 * @param {string} name
 */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `page/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** Gives buttons of the page their icons, `data-icon="undo"`. */
export function drawIcons() {
  for (const button of document.querySelectorAll("[data-icon]")) {
    button.prepend(.../** @type {HTMLElement} */ (button).dataset.icon?.split(" ").map(icon) ?? []);
  }
}

/**
 * A button with an icon, and a name for those who do not see it.
 *
 * @param {string} name of the icon
 * @param {string} label
 * @param {() => void} run
 */
export function iconButton(name, label, run) {
  const settings = { type: "button", className: "quiet", title: label, "aria-label": label, onclick: run };
  return make("button", settings, icon(name));
}

/**
 * Sets what differs, so that screen readers and focus are left alone.
 *
 * @param {Element} target
 * @param {string} text
 */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}
