/** Work kept in this browser as it goes, without the pictures: a reload, or a server that has gone, loses nothing. */

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./engine.js").Media} Media */
/** @typedef {import("./project.js").Project} Project */
/** @typedef {import("./project.js").ProjectData} ProjectData */

const [DATABASE, STORE] = ["edgetam", "work"];
const MOST_KEPT = 8;
const PAUSE = 1000; // milliseconds between a change and its being kept
const MOST_TIME = 0.05; // of all time, for large projects

/**
 * Keeps the project whenever it has changed, at the latest when another one takes its place.
 *
 * @param {App} app
 */
export function keepWork(app) {
  /** @type {WeakMap<Project, number>} */
  const keptRevisions = new WeakMap();
  /** @type {Project | null} */
  let changed = null; // what is to be kept
  let due = 0;
  let timer = 0;
  const keep = async () => {
    clearTimeout(timer);
    timer = 0;
    const project = changed;
    changed = null;
    if (!project) return;
    keptRevisions.set(project, project.revision);
    const started = performance.now();
    await store(project.toData()).catch(() => {}); // private windows keep nothing
    const ended = performance.now();
    due = ended + (ended - started) / MOST_TIME;
  };
  app.listen(() => {
    const { project } = app;
    if (changed && changed !== project) keep();
    if (!project || project.isEmpty || project.media.kind === "live") return;
    if (project.revision === keptRevisions.get(project)) return;
    changed = project;
    timer ||= window.setTimeout(keep, Math.max(PAUSE, due - performance.now()));
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) keep();
  });
}

/**
 * The work that was kept of a picture or video, `null` if there is none.
 *
 * @param {Media} media
 * @returns {Promise<ProjectData | null>}
 */
export async function savedWork(media) {
  const [, stores] = await begin("readonly");
  return (await answer(stores.get(keyOf(media))))?.data ?? null;
}

/** @returns {Promise<Media | null>} what was worked on last */
export async function lastMedia() {
  const [, stores] = await begin("readonly");
  const all = await answer(stores.getAll());
  return all.sort((one, other) => other.time - one.time)[0]?.data.media ?? null;
}

/** @param {ProjectData} data */
async function store(data) {
  const [, stores] = await begin("readwrite");
  await answer(stores.put({ key: keyOf(data.media), time: Date.now(), data }));
  const all = await answer(stores.getAll());
  const old = all.sort((one, other) => other.time - one.time).slice(MOST_KEPT);
  await Promise.all(old.map((one) => answer(stores.delete(one.key))));
}

/** @param {Media} media */
function keyOf({ name, width, height, numFrames }) {
  return `${name} ${width}x${height} ${numFrames}`;
}

/**
 * @param {IDBTransactionMode} mode
 * @returns {Promise<[IDBTransaction, IDBObjectStore]>}
 */
async function begin(mode) {
  const request = indexedDB.open(DATABASE, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "key" });
  const transaction = (await answer(request)).transaction(STORE, mode);
  return [transaction, transaction.objectStore(STORE)];
}

/**
 * @template T
 * @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
function answer(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
