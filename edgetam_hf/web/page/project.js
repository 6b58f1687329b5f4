/**
 * The document: what is open, which objects there are, what was said of them, and what was found.
 *
 * It knows neither the page nor the engine. Every change that the user makes is a step, which can be undone and done
 * again; results that arrive belong to the last step that asked for any. Objects, what was said, and results are never changed in
 * place: a step keeps the lists as they were.
 */
import { freeColour } from "./colours.js";
import { EverythingState } from "./everything_video.js";

/** @typedef {import("./engine.js").Media} Media */
/** @typedef {import("./engine.js").Prompt} Prompt */
/** @typedef {import("./engine.js").Found} Found */
/** @typedef {import("./engine.js").FoundFrame} FoundFrame */

/**
 * @typedef {object} ObjectData
 * @property {number} id from 1 on; never used again
 * @property {string} name
 * @property {number[]} colour [red, green, blue], 0..255
 * @property {boolean} isVisible
 */

/**
 * @typedef {object} Said what was said of an object on a frame
 * @property {number} objectId
 * @property {number} frameIdx 0 of a picture
 * @property {Prompt[]} prompts in order, never empty
 * @property {number} choice of a picture: which of the candidates was chosen, 0 is the best
 */

/**
 * @typedef {object} ProjectData the whole document as plain data
 * @property {Media} media
 * @property {ObjectData[]} objects in the order of the list
 * @property {Said[]} prompts by frame, then by object
 * @property {FoundFrame[]} frames that have results, ascending; each with the objects that were found on it
 */

/** @typedef {Map<number, Found>} OnFrame what was found on a frame, by object id */

/**
 * @typedef {object} Step the document around a step: on the way back before it, on the way forth after it
 * @property {string} name for the user: "Undo click"
 * @property {readonly ObjectData[]} objects
 * @property {readonly Said[]} said
 * @property {EverythingState} everything
 * @property {Map<number, OnFrame | undefined>} frames results of the frames that the step has changed
 * @property {boolean} hasResults whether results that arrive belong to it
 */

/** @typedef {Pick<Step, "objects" | "said" | "everything">} State what steps keep whole */

const MOST_STEPS = 500;

export class Project {
  #media;
  /** @type {readonly ObjectData[]} */
  #objects = [];
  /** @type {readonly Said[]} */
  #said = [];
  /** @type {Map<number, OnFrame>} */
  #frames = new Map();
  /** @type {Step[]} */
  #undoable = [];
  /** @type {Step[]} */
  #redoable = [];
  #everything = new EverythingState();
  #nextId = 1;
  #revision = 0;

  /** @param {Media} media */
  constructor(media) {
    this.#media = media;
  }

  get media() {
    return this.#media;
  }

  /** Objects in the order of the list. */
  get objects() {
    return this.#objects;
  }

  /** All that was said, by frame, then by object. */
  get said() {
    return this.#said;
  }

  /** What is known of the objects that were discovered; no part of what is saved. */
  get everything() {
    return this.#everything;
  }

  /** Number of objects of which something was said: those that are followed. */
  get numFollowed() {
    return new Set(this.#said.map(({ objectId }) => objectId)).size;
  }

  /** A number that grows with every change. */
  get revision() {
    return this.#revision;
  }

  /** Whether anything was said or found. */
  get isEmpty() {
    return this.#said.length === 0 && this.#frames.size === 0;
  }

  /** Name of the step that `undo` takes back, `null` if there is none. */
  get undoName() {
    return this.#undoable.at(-1)?.name ?? null;
  }

  /** Name of the step that `redo` takes again, `null` if there is none. */
  get redoName() {
    return this.#redoable.at(-1)?.name ?? null;
  }

  /** What stands for the step that `undo` takes back. */
  get lastStep() {
    return this.#undoable.at(-1);
  }

  /** Frames that have results, ascending. */
  get foundFrames() {
    const frames = [...this.#frames.keys()].filter((frameIdx) => this.found(frameIdx).length > 0);
    return frames.sort((one, other) => one - other);
  }

  /** @param {number} id */
  object(id) {
    return this.#objects.find((object) => object.id === id);
  }

  /**
   * What was said of an object on a frame.
   *
   * @param {number} frameIdx
   * @param {number} objectId
   */
  saidOf(frameIdx, objectId) {
    return this.#said.find((said) => said.frameIdx === frameIdx && said.objectId === objectId);
  }

  /**
   * What was said on a frame.
   *
   * @param {number} frameIdx
   */
  saidOn(frameIdx) {
    return this.#said.filter((said) => said.frameIdx === frameIdx);
  }

  /**
   * Frames on which something was said of an object, or of any, ascending.
   *
   * @param {number} [objectId]
   */
  promptedFrames(objectId) {
    const said = this.#said.filter((one) => objectId === undefined || one.objectId === objectId);
    return [...new Set(said.map((one) => one.frameIdx))];
  }

  /**
   * What was found on a frame, in the order of the objects.
   *
   * @param {number} frameIdx
   * @returns {Found[]}
   */
  found(frameIdx) {
    const found = this.#frames.get(frameIdx);
    return found ? this.#objects.flatMap(({ id }) => found.get(id) ?? []) : [];
  }

  /**
   * One object on a frame.
   *
   * @param {number} frameIdx
   * @param {number} objectId
   */
  foundOf(frameIdx, objectId) {
    return this.object(objectId) && this.#frames.get(frameIdx)?.get(objectId);
  }

  /**
   * Adds an object, and gives it.
   *
   * @param {string} [name]
   * @returns {ObjectData}
   */
  addObject(name) {
    const object = newObject(this.#nextId++, this.#objects, name);
    this.#begin("new object");
    this.#objects = [...this.#objects, object];
    return object;
  }

  /**
   * Changes the name, the colour or the visibility of an object.
   *
   * @param {number} id
   * @param {Partial<Omit<ObjectData, "id">>} changes
   */
  changeObject(id, changes) {
    this.#begin("change of an object", false);
    this.#objects = this.#objects.map((object) => (object.id === id ? { ...object, ...changes } : object));
  }

  /**
   * Removes an object with all that was said of it. Its results come back if the step is undone.
   *
   * @param {number} id
   */
  removeObject(id) {
    this.#begin("removal of an object");
    this.#objects = this.#objects.filter((object) => object.id !== id);
    this.#said = this.#said.filter((said) => said.objectId !== id);
  }

  /**
   * Says more of an object on a frame. A mask replaces what was said there before.
   *
   * @param {number} frameIdx
   * @param {number} objectId
   * @param {Prompt} prompt
   */
  addPrompt(frameIdx, objectId, prompt) {
    const earlier = prompt.mask ? [] : (this.saidOf(frameIdx, objectId)?.prompts ?? []);
    this.#begin(prompt.mask ? "mask" : prompt.box ? "box" : "click");
    this.#everything = this.#everything.knows([objectId]);
    this.#say({ objectId, frameIdx, prompts: [...earlier, prompt], choice: 0 });
  }

  /**
   * Takes back one prompt of an object on a frame, or all of them.
   *
   * @param {number} frameIdx
   * @param {number} objectId
   * @param {number} [promptIdx]
   */
  removePrompts(frameIdx, objectId, promptIdx) {
    const earlier = this.saidOf(frameIdx, objectId)?.prompts ?? [];
    this.#begin("removal of a prompt");
    const prompts = promptIdx === undefined ? [] : earlier.filter((_, idx) => idx !== promptIdx);
    this.#say({ objectId, frameIdx, prompts, choice: 0 });
  }

  /**
   * Chooses one of the candidates of an object of a picture.
   *
   * @param {number} objectId
   * @param {number} choice
   */
  choose(objectId, choice) {
    const said = this.saidOf(0, objectId);
    if (!said) return;
    this.#begin("choice");
    this.#say({ ...said, choice });
  }

  /**
   * Begins a step that changes results alone.
   *
   * @param {string} name
   */
  beginStep(name) {
    this.#begin(name);
  }

  /** Ends the last step that asked for results; one that got none is forgotten. */
  endStep() {
    const idx = this.#undoable.findLastIndex((step) => step.hasResults);
    if (this.#undoable[idx]?.frames.size === 0) this.#undoable.splice(idx, 1);
  }

  /**
   * Ids for so many objects that are discovered: before anything was said, of those that are there, and then new ones.
   *
   * @param {number} num
   */
  idsToDiscover(num) {
    const free = this.isEmpty ? this.#objects.slice(0, num).map(({ id }) => id) : [];
    return [...free, ...Array.from({ length: num - free.length }, () => this.#nextId++)];
  }

  /**
   * As a part of the last step that asked for results: objects that begin or end on a frame without a user's doing.
   *
   * Of an object that ends nothing is said any more, so that it is not followed; what was found of it before stays.
   *
   * @param {number} frameIdx
   * @param {ReadonlyMap<number, Uint32Array>} begun masks of objects on the frame, by ids of `idsToDiscover`
   * @param {readonly number[]} ended ids of objects
   * @param {EverythingState} everything what is known from now on
   */
  discover(frameIdx, begun, ended, everything) {
    /** @type {ObjectData[]} */
    const objects = [];
    for (const id of begun.keys()) {
      if (!this.object(id)) objects.push(newObject(id, [...this.#objects, ...objects]));
    }
    const said = [...begun].map(([objectId, mask]) => (
      { objectId, frameIdx, prompts: [{ points: [], labels: [], box: null, mask }], choice: 0 }
    ));
    this.#changeStep((known) => ({
      objects: [...known.objects, ...objects],
      said: [...known.said.filter(({ objectId }) => !ended.includes(objectId)), ...said].sort(bySaid),
      everything,
    }));
    for (const id of ended) this.forget(frameIdx, id);
  }

  /**
   * Keeps what was found on a frame. Objects that are not in it stay as they are.
   *
   * @param {FoundFrame} found
   */
  keep({ frameIdx, objects }) {
    const onFrame = new Map(this.#frames.get(frameIdx));
    for (const found of objects) onFrame.set(found.objectId, found);
    this.#setFrame(frameIdx, onFrame);
  }

  /**
   * Forgets what was found of an object on a frame.
   *
   * @param {number} frameIdx
   * @param {number} objectId
   */
  forget(frameIdx, objectId) {
    const onFrame = new Map(this.#frames.get(frameIdx));
    if (onFrame.delete(objectId)) this.#setFrame(frameIdx, onFrame);
  }

  /**
   * Forgets all that was found of an object.
   *
   * @param {number} objectId
   */
  forgetObject(objectId) {
    for (const frameIdx of [...this.#frames.keys()]) this.forget(frameIdx, objectId);
  }

  /** Takes back the last step, and gives whether there was one. */
  undo() {
    return this.#travel(this.#undoable, this.#redoable);
  }

  /** Takes the step again that was taken back last, and gives whether there was one. */
  redo() {
    return this.#travel(this.#redoable, this.#undoable);
  }

  /** Takes back the last step for good: it has failed. */
  drop() {
    if (this.undo()) this.#redoable.pop();
  }

  /**
   * Of a camera: there is one more frame. Only its results are kept.
   *
   * @param {FoundFrame} found
   */
  receive(found) {
    this.#revision++;
    this.#media = { ...this.#media, numFrames: found.frameIdx + 1 };
    this.#frames = new Map([[found.frameIdx, new Map(found.objects.map((object) => [object.objectId, object]))]]);
  }

  /**
   * The document of newly opened media, with a first object.
   *
   * @param {Media} media
   */
  static begin(media) {
    const project = new Project(media);
    project.addObject();
    project.#undoable = [];
    return project;
  }

  /**
   * The whole document as plain data, without the steps. Lists are new, what is in them is shared.
   *
   * @returns {ProjectData}
   */
  toData() {
    const frames = this.foundFrames.map((frameIdx) => ({ frameIdx, objects: this.found(frameIdx) }));
    return { media: this.#media, objects: [...this.#objects], prompts: [...this.#said], frames };
  }

  /**
   * A document of plain data.
   *
   * @param {ProjectData} data
   */
  static fromData({ media, objects, prompts, frames }) {
    const project = new Project(media);
    project.#objects = [...objects];
    project.#said = [...prompts].sort(bySaid);
    project.#nextId = 1 + Math.max(0, ...objects.map((object) => object.id));
    for (const frame of frames) {
      project.#frames.set(frame.frameIdx, new Map(frame.objects.map((found) => [found.objectId, found])));
    }
    return project;
  }

  get #state() {
    return { objects: this.#objects, said: this.#said, everything: this.#everything };
  }

  /** @param {State} state */
  set #state({ objects, said, everything }) {
    this.#objects = objects;
    this.#said = said;
    this.#everything = everything;
  }

  /**
   * Changes the document as a part of the last step that asked for results; steps after it, as a change of a colour
   * while objects are followed, take nothing of that back.
   *
   * @param {(state: State) => State} change
   */
  #changeStep(change) {
    this.#revision++;
    const idx = this.#undoable.findLastIndex(({ hasResults }) => hasResults);
    for (const later of this.#undoable.slice(idx + 1)) Object.assign(later, change(later));
    this.#state = change(this.#state);
  }

  /**
   * @param {string} name
   * @param {boolean} [hasResults]
   */
  #begin(name, hasResults = true) {
    this.#revision++;
    this.#undoable.push({ name, ...this.#state, frames: new Map(), hasResults });
    if (this.#undoable.length > MOST_STEPS) this.#undoable.shift();
    this.#redoable = [];
  }

  /** @param {Said} said what there is now; nothing if it has no prompts */
  #say(said) {
    const others = this.#said.filter((one) => one.frameIdx !== said.frameIdx || one.objectId !== said.objectId);
    this.#said = said.prompts.length > 0 ? [...others, said].sort(bySaid) : others;
  }

  /**
   * @param {number} frameIdx
   * @param {OnFrame | undefined} onFrame
   */
  #setFrame(frameIdx, onFrame) {
    const step = this.#undoable.findLast(({ hasResults }) => hasResults);
    if (step && !step.frames.has(frameIdx)) step.frames.set(frameIdx, this.#frames.get(frameIdx));
    this.#putFrame(frameIdx, onFrame);
  }

  /**
   * @param {number} frameIdx
   * @param {OnFrame | undefined} onFrame
   */
  #putFrame(frameIdx, onFrame) {
    this.#revision++;
    if (onFrame && onFrame.size > 0) this.#frames.set(frameIdx, onFrame);
    else this.#frames.delete(frameIdx);
  }

  /**
   * @param {Step[]} from
   * @param {Step[]} to
   */
  #travel(from, to) {
    const step = from.pop();
    if (!step) return false;
    this.#revision++;
    const frames = new Map([...step.frames.keys()].map((frameIdx) => [frameIdx, this.#frames.get(frameIdx)]));
    to.push({ ...step, ...this.#state, frames });
    this.#state = step;
    for (const [frameIdx, onFrame] of step.frames) this.#putFrame(frameIdx, onFrame);
    return true;
  }
}

/**
 * @param {number} id
 * @param {readonly ObjectData[]} others
 * @param {string} [name]
 * @returns {ObjectData}
 */
function newObject(id, others, name = `Object ${id}`) {
  return { id, name, colour: freeColour(others.map(({ colour }) => colour)), isVisible: true };
}

/**
 * @param {Said} one
 * @param {Said} other
 */
function bySaid(one, other) {
  return one.frameIdx - other.frameIdx || one.objectId - other.objectId;
}

/**
 * All that was said of an object of a picture in one: every click, the last box, the last mask.
 *
 * @param {readonly Prompt[]} prompts
 * @returns {Prompt}
 */
export function joinPrompts(prompts) {
  return {
    points: prompts.flatMap((prompt) => prompt.points),
    labels: prompts.flatMap((prompt) => prompt.labels),
    box: prompts.findLast((prompt) => prompt.box)?.box ?? null,
    mask: prompts.findLast((prompt) => prompt.mask)?.mask ?? null,
  };
}

/**
 * @typedef {object} Differences what an engine has to be told when what was said changes
 * @property {number[]} removed objects of which nothing is said any more
 * @property {{ frameIdx: number, objectId: number, prompts: readonly Prompt[] }[]} changed what is said now; nothing
 *     where it has been taken back
 */

/**
 * What has changed between two lists of what was said.
 *
 * @param {readonly Said[]} before
 * @param {readonly Said[]} after
 * @returns {Differences}
 */
export function differences(before, after) {
  const ids = new Set(after.map((said) => said.objectId));
  const removed = [...new Set(before.map((said) => said.objectId))].filter((id) => !ids.has(id));
  const gone = before.filter(
    (said) => ids.has(said.objectId) && !after.some((one) => isSamePlace(one, said)),
  );
  const news = after.filter((said) => before.find((one) => isSamePlace(one, said))?.prompts !== said.prompts);
  const changed = [...gone.map((said) => ({ ...said, prompts: [] })), ...news];
  return { removed, changed: changed.map(({ frameIdx, objectId, prompts }) => ({ frameIdx, objectId, prompts })) };
}

/**
 * @param {Said} one
 * @param {Said} other
 */
function isSamePlace(one, other) {
  return one.frameIdx === other.frameIdx && one.objectId === other.objectId;
}
