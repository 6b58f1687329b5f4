/** node tests/web/resize.js JOB.json: writes the model inputs of pictures, float32, one file for each task. */
import { readFile, writeFile } from "node:fs/promises";
import { pixelValues, readFrame } from "../../edgetam_hf/web/frames.js";

for (const { pixels, target, frame, preparation } of JSON.parse(await readFile(process.argv[2], "utf8"))) {
  const data = new Uint8Array(await readFile(pixels));
  await writeFile(target, pixelValues(readFrame({ data, ...frame }), preparation));
}
