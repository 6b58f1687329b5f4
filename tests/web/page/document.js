/** The document of the page, its differences, masks from files, and the placement of pictures, in Node. */
import assert from "node:assert/strict";
import test from "node:test";

const [folder] = process.argv.slice(2);
const { differences, joinPrompts, Project } = await import(`${folder}/page/project.js`);
const { EverythingState } = await import(`${folder}/page/everything_video.js`);
const { keepChoice, tellAll, tellChanges, tellStep } = await import(`${folder}/page/tell.js`);
const { masksOf } = await import(`${folder}/page/mask_file.js`);
const { fit, move, toPicture, zoomAt } = await import(`${folder}/page/zoom.js`);

const VIDEO = { kind: "video", name: "a.mp4", width: 4, height: 3, numFrames: 9, frameRate: 25, hasSound: false };
const PICTURE = { ...VIDEO, kind: "picture", numFrames: 1 };

function click(x, label = 1) {
  return { points: [[x, 1]], labels: [label], box: null, mask: null };
}

function found(objectId, on = 1) {
  return { objectId, runs: Uint32Array.of(0, on, 12 - on), iouScore: 0.9, isPresent: true };
}

/** An engine that writes down what it is told, and whose masks are as large as the number of prompts. */
class Engine {
  said = [];
  failing = "";

  async addPrompt(frameIdx, objectId, prompt) {
    this.#say("add", frameIdx, objectId, prompt.points[0]?.[0] ?? "mask");
    return { frameIdx, objects: [found(objectId, this.said.length)] };
  }

  async addMasks(frameIdx, masks) {
    this.#say("masks", frameIdx, ...masks.keys());
    return { frameIdx, objects: [...masks.keys()].map((id) => found(id)) };
  }

  async clearPrompts(frameIdx, objectId) {
    this.#say("clear", frameIdx, objectId);
    return { frameIdx, objects: [] };
  }

  async removeObject(objectId) {
    this.#say("remove", objectId);
  }

  async reset() {
    this.#say("reset");
  }

  async segment(prompt, isMultimask) {
    this.#say("segment", prompt.points.length, isMultimask);
    return isMultimask ? [found(0, 3), found(0, 2), found(0, 1)] : [found(0, 4)];
  }

  #say(...call) {
    if (this.failing === call[0]) throw new Error("no room");
    this.said.push(call.join(" "));
  }
}

function begin(media = VIDEO) {
  return { project: Project.begin(media), engine: new Engine(), candidates: new WeakMap(), isEngineBehind: false };
}

async function change(app, make) {
  const before = app.project.said;
  make(app.project);
  await tellChanges(app, before);
  return app.engine.said.splice(0);
}

async function travel(app, direction) {
  const before = app.project.said;
  app.project[direction]();
  await tellStep(app, before);
  return app.engine.said.splice(0);
}

test("a document takes every step back, and again", () => {
  const project = Project.begin(VIDEO);
  const states = [project.toData()];
  const steps = [
    () => project.addPrompt(3, 1, click(1)),
    () => project.addObject("Cup"),
    () => project.addPrompt(3, 2, { ...click(2), box: [0, 0, 2, 2] }),
    () => project.changeObject(2, { colour: [1, 2, 3], isVisible: false }),
    () => project.removePrompts(3, 2),
    () => project.removeObject(1),
    () => project.addPrompt(5, 2, { points: [], labels: [], box: null, mask: Uint32Array.of(12) }),
  ];
  for (const [idx, step] of steps.entries()) {
    step();
    const asksForResults = project.lastStep.hasResults; // all but a change of colour
    if (asksForResults) project.keep({ frameIdx: idx, objects: project.objects.map(({ id }) => found(id, idx + 1)) });
    states.push(project.toData());
  }
  for (const state of states.slice(0, -1).reverse()) {
    assert.ok(project.undo());
    assert.deepEqual(project.toData(), state);
  }
  assert.equal(project.undo(), false);
  assert.equal(project.redoName, "click");
  for (const state of states.slice(1)) {
    project.redo();
    assert.deepEqual(project.toData(), state);
  }
  assert.equal(project.redo(), false);
  project.undo();
  project.addObject();
  assert.equal(project.redoName, null);
});

test("objects that were discovered are a part of the step that found them", () => {
  const project = Project.begin(VIDEO);
  const before = project.toData();
  const mask = Uint32Array.of(0, 4, 8);
  project.beginStep("following everything");
  const ids = project.idsToDiscover(2);
  assert.deepEqual(ids, [1, 2]); // the object that is there, of which nothing was said, and a new one
  const state = new EverythingState({ frameIdx: 0, discoveredAt: 0, numUnseen: new Map([[1, 0], [2, 0]]) });
  project.discover(0, new Map(ids.map((id) => [id, mask])), [], state);
  project.keep({ frameIdx: 0, objects: [found(1), found(2)] });
  project.changeObject(2, { isVisible: false }); // meanwhile
  const [late] = project.idsToDiscover(1);
  project.discover(1, new Map([[late, mask]]), [2], new EverythingState({ ...state, frameIdx: 1 }));
  project.keep({ frameIdx: 1, objects: [found(1), found(late)] });
  project.endStep();
  assert.deepEqual(project.said.map(({ objectId, frameIdx }) => [objectId, frameIdx]), [[1, 0], [late, 1]]);
  assert.ok(project.foundOf(0, 2) && !project.foundOf(1, 2));
  const after = project.toData();
  project.undo();
  assert.deepEqual(project.objects.map(({ id, isVisible }) => [id, isVisible]), [[1, true], [2, true], [late, true]]);
  assert.equal(project.everything.frameIdx, 1);
  project.undo();
  assert.deepEqual(project.toData(), before);
  assert.equal(project.everything.frameIdx, null);
  project.redo();
  project.redo();
  assert.deepEqual(project.toData(), after);
  project.addPrompt(1, 1, click(1));
  assert.deepEqual([...project.everything.numUnseen.keys()], [2]); // a user's object is never dropped
});

test("ids and colours of objects are never those of another", () => {
  const project = Project.begin(VIDEO);
  project.addObject();
  project.removeObject(2);
  assert.equal(project.addObject().id, 3);
  project.addObject();
  const colours = project.objects.map(({ colour }) => colour.join());
  assert.equal(new Set(colours).size, 3);
  const again = Project.fromData(project.toData());
  assert.equal(again.addObject().id, 5);
});

test("plain data become the same document", () => {
  const project = Project.begin(VIDEO);
  project.addPrompt(4, 1, click(2));
  project.addPrompt(1, 1, click(3, 0));
  project.keep({ frameIdx: 4, objects: [found(1)] });
  const again = Project.fromData(structuredClone(project.toData()));
  assert.deepEqual(again.toData(), project.toData());
  assert.deepEqual(again.promptedFrames(1), [1, 4]);
  assert.deepEqual(again.foundFrames, [4]);
  assert.equal(again.undoName, null);
});

test("a step that failed is dropped for good", () => {
  const project = Project.begin(VIDEO);
  const before = project.toData();
  project.addPrompt(0, 1, click(1));
  project.keep({ frameIdx: 0, objects: [found(1)] });
  project.drop();
  assert.deepEqual(project.toData(), before);
  assert.equal(project.redoName, null);
});

test("of a camera only the last frame is kept", () => {
  const project = Project.begin({ ...VIDEO, kind: "live", numFrames: 0 });
  for (const frameIdx of [0, 1, 2]) project.receive({ frameIdx, objects: [found(1)] });
  assert.deepEqual([project.media.numFrames, project.foundFrames], [3, [2]]);
});

test("prompts of a picture are joined", () => {
  const mask = Uint32Array.of(12);
  const last = { points: [], labels: [], box: [1, 1, 2, 2], mask };
  const prompts = [click(1), { ...click(2, 0), box: [0, 0, 1, 1] }, last];
  assert.deepEqual(joinPrompts(prompts), { points: [[1, 1], [2, 1]], labels: [1, 0], box: [1, 1, 2, 2], mask });
});

test("differences say what is new, what has changed and what is gone", () => {
  const [one, other] = [click(1), click(2)];
  const before = [
    { objectId: 1, frameIdx: 0, prompts: [one] }, { objectId: 2, frameIdx: 0, prompts: [one] },
    { objectId: 1, frameIdx: 4, prompts: [one] },
  ];
  const after = [before[0], { objectId: 3, frameIdx: 5, prompts: [other] }];
  assert.deepEqual(differences(before, after), {
    removed: [2],
    changed: [{ frameIdx: 4, objectId: 1, prompts: [] }, { frameIdx: 5, objectId: 3, prompts: [other] }],
  });
});

test("an engine of a video is told no more than what has changed", async () => {
  const app = begin();
  assert.deepEqual(await change(app, (project) => project.addPrompt(2, 1, click(1))), ["add 2 1 1"]);
  assert.deepEqual(await change(app, (project) => project.addPrompt(2, 1, click(2))), ["add 2 1 2"]);
  assert.deepEqual(await change(app, (project) => project.addPrompt(5, 1, click(3))), ["add 5 1 3"]);
  assert.deepEqual(await change(app, (project) => project.removePrompts(2, 1, 0)), ["clear 2 1", "add 2 1 2"]);
  const mask = { points: [], labels: [], box: null, mask: Uint32Array.of(12) };
  assert.deepEqual(await change(app, (project) => project.addPrompt(2, 1, mask)), ["add 2 1 mask"]);
  assert.deepEqual(await travel(app, "undo"), ["clear 2 1", "add 2 1 2"]);
  assert.deepEqual(await travel(app, "undo"), ["clear 2 1", "add 2 1 1", "add 2 1 2"]);
  assert.deepEqual(await travel(app, "undo"), ["clear 5 1"]);
  assert.deepEqual(await travel(app, "redo"), ["add 5 1 3"]);
  assert.deepEqual(await change(app, (project) => project.addObject()), []);
  assert.deepEqual(await change(app, (project) => project.removeObject(1)), ["remove 1"]);
  assert.deepEqual(app.project.foundFrames, []);
  assert.deepEqual(await travel(app, "undo"), ["add 2 1 1", "add 2 1 2", "add 5 1 3"]);
  assert.deepEqual(app.project.foundFrames, [2, 5]);
});

test("masks of several objects on a frame are told together", async () => {
  const app = begin();
  const mask = { points: [], labels: [], box: null, mask: Uint32Array.of(12) };
  const make = (project) => {
    for (const id of [1, 2, 3]) project.addPrompt(4, id, mask);
    project.addPrompt(4, 2, click(1));
    project.addPrompt(5, 2, mask);
  };
  assert.deepEqual(await change(app, make), ["masks 4 1 2", "add 4 2 1", "add 4 3 mask", "add 5 2 mask"]);
  await tellAll(app);
  assert.deepEqual(app.engine.said, ["reset", "masks 4 1 2", "add 4 2 1", "add 4 3 mask", "add 5 2 mask"]);
});

test("an engine that was told half of a change is told everything anew", async () => {
  const app = begin();
  await change(app, (project) => project.addPrompt(2, 1, click(1)));
  await change(app, (project) => project.addPrompt(2, 1, click(2)));
  app.engine.failing = "clear";
  await assert.rejects(change(app, (project) => project.removePrompts(2, 1, 0)), /no room/);
  app.project.drop();
  assert.equal(app.isEngineBehind, false); // nothing of it was told
  app.engine.failing = "add";
  await assert.rejects(change(app, (project) => project.removePrompts(2, 1, 0)), /no room/);
  app.project.drop();
  app.engine.failing = "";
  app.engine.said = [];
  const told = await change(app, (project) => project.addPrompt(3, 1, click(3)));
  assert.deepEqual(told, ["reset", "add 2 1 1", "add 2 1 2", "add 3 1 3"]);
});

test("a restored document is told in order, and keeps its results", async () => {
  const app = begin();
  await change(app, (project) => project.addPrompt(4, 1, click(1)));
  await change(app, (project) => project.addPrompt(2, 1, click(2)));
  app.project = Project.fromData(app.project.toData());
  const before = app.project.toData();
  await tellAll(app);
  assert.deepEqual(app.engine.said, ["reset", "add 2 1 2", "add 4 1 1"]);
  assert.deepEqual(app.project.toData(), before);
});

test("candidates of a picture are asked once", async () => {
  const app = begin(PICTURE);
  assert.deepEqual(await change(app, (project) => project.addPrompt(0, 1, click(1))), ["segment 1 true"]);
  app.project.choose(1, 2);
  keepChoice(app, 1, app.candidates.get(app.project.saidOf(0, 1).prompts));
  assert.equal(app.project.foundOf(0, 1).runs[1], 1);
  assert.deepEqual(await change(app, (project) => project.addPrompt(0, 1, click(2))), ["segment 2 false"]);
  assert.equal(app.project.foundOf(0, 1).runs[1], 4);
  assert.deepEqual(await travel(app, "undo"), []);
  assert.equal(app.project.foundOf(0, 1).runs[1], 1);
  assert.deepEqual(await change(app, (project) => project.removePrompts(0, 1)), []);
  assert.equal(app.project.foundOf(0, 1), undefined);
});

test("masks are read from black and white, grey and coloured pictures", () => {
  const size = { width: 3, height: 1 };
  const rgba = (...colours) => Uint8ClampedArray.from(colours.flatMap((colour) => [...colour, 255]));
  const white = rgba([0, 0, 0], [255, 255, 255], [100, 100, 100]);
  assert.deepEqual(masksOf(white, "a.png", size), [Uint32Array.of(1, 1, 1)]);
  const numbers = rgba([1, 1, 1], [2, 2, 2], [2, 2, 2]);
  assert.deepEqual(masksOf(numbers, "a.png", size), [Uint32Array.of(1, 2), Uint32Array.of(0, 1, 2)]);
  const palette = rgba([128, 0, 0], [0, 0, 0], [0, 128, 0]);
  assert.deepEqual(masksOf(palette, "a.png", size), [Uint32Array.of(0, 1, 2), Uint32Array.of(2, 1)]);
  assert.throws(() => masksOf(rgba([0, 0, 0], [0, 0, 0], [0, 0, 0]), "a.png", size), /all of it is black/);
  const photograph = rgba(...Array.from({ length: 99 }, (_, i) => [i, 0, 5]));
  assert.throws(() => masksOf(photograph, "a.png", { width: 99, height: 1 }), /a\.png is no mask/);
});

test("a place under the pointer stays there when it is zoomed", () => {
  const [picture, canvas] = [{ width: 400, height: 200 }, { width: 832, height: 632 }];
  const whole = fit(picture, canvas);
  assert.deepEqual(whole, { scale: 2, left: 16, top: 116 });
  const place = [300, 300];
  const near = zoomAt(whole, 3, place, picture, canvas);
  assert.deepEqual(toPicture(near, place), toPicture(whole, place));
  assert.ok(zoomAt(whole, 1e6, place, picture, canvas).scale <= 40);
  const gone = move(near, [1e6, -1e6], picture, canvas);
  assert.ok(gone.left < canvas.width && gone.top + gone.scale * picture.height > 0);
});
