/** What the page exports with a canvas, in a browser. */
import { EXPORTS, exportFile } from "/web/page/exports.js";
import { readDescribed } from "./page_project.js";

/** An engine whose frames are given as RGB, and whose films say what they were asked for. */
function engineOf(frames, { width, height }) {
  return {
    async frame(frameIdx) {
      const image = new ImageData(width, height);
      frames[frameIdx].forEach((level, i) => (image.data[4 * Math.floor(i / 3) + (i % 3)] = level));
      for (let i = 3; i < image.data.length; i += 4) image.data[i] = 255;
      return createImageBitmap(image);
    },
    async overlay({ objects, frames: found, on }) {
      const said = { objects, frames: found.map((idx) => [idx, on(idx).map(({ objectId }) => objectId)]) };
      return new Blob([JSON.stringify(said)], { type: "video/mp4" });
    },
  };
}

/** Name and bytes of an export. */
export async function exportInBrowser(kind, described, frames) {
  const project = readDescribed(described);
  const engine = engineOf(frames, project.media);
  const { name, blob } = await exportFile(kind, project, engine, () => {}, new AbortController().signal);
  return { name, bytes: [...new Uint8Array(await blob.arrayBuffer())] };
}

export const kinds = EXPORTS.map(({ kind }) => kind);
