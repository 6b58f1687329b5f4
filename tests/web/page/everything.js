/** node everything.js SOURCES JOB.json: what following everything makes of the frames of a job, as JSON. */
import { readFile } from "node:fs/promises";

const [folder, path] = process.argv.slice(2);
const page = await import(`${folder}/page/everything_video.js`);
const { options, size, frames } = JSON.parse(await readFile(path, "utf8"));

let state = new page.EverythingState();
const outputs = frames.map(({ frameIdx, prompted, found, candidates, limit, ids }) => {
  state = state.knows(prompted);
  const objects = found.map(([objectId, runs]) => ({ objectId, runs: Uint32Array.from(runs) }));
  const seen = page.lookAt(objects, size, options.mergeIou);
  const [after, dropped] = state.after(frameIdx, seen, options);
  const left = objects.filter(({ objectId }) => !dropped.includes(objectId));
  const isSearched = after.isDue(seen, options) && limit > 0;
  const masks = candidates.map((runs) => Uint32Array.from(runs));
  const parts = isSearched ? page.uncoveredMasks(masks, page.coveredBy(left, size), size, options, limit) : [];
  state = isSearched ? after.discovered(ids, seen.uncovered) : after;
  const described = { ...seen, areas: [...seen.areas] };
  return { seen: described, dropped, isSearched, parts: parts.map((runs) => [...runs]), state };
});
const plain = (_, value) => (value instanceof Map ? [...value] : value);
console.log(JSON.stringify({ options: page.OPTIONS, outputs }, plain));
