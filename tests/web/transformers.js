/** node tests/web/transformers.js JOB.json: what Transformers.js finds in a picture for sets of prompts, as JSON. */
import { readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

const { modules, tasks } = JSON.parse(await readFile(process.argv[2], "utf8"));
const entry = join(modules, "@huggingface/transformers/dist/transformers.node.mjs");
const { AutoProcessor, EdgeTamModel, env, RawImage } = await import(pathToFileURL(entry).href);
const [{ folder, pixels, size, prompts }] = tasks;
env.allowRemoteModels = false;
env.localModelPath = dirname(folder);
const session_options = { intraOpNumThreads: 1, logSeverityLevel: 3 };
const model = await EdgeTamModel.from_pretrained(basename(folder), { session_options });
const processor = await AutoProcessor.from_pretrained(basename(folder));
const picture = new RawImage(new Uint8ClampedArray(await readFile(pixels)), size.width, size.height, 3);

const found = [];
for (const given of prompts) {
  const inputs = await processor(picture, given);
  const { pred_masks, iou_scores, object_score_logits } = await model(inputs);
  const [masks] = await processor.post_process_masks(pred_masks, inputs.original_sizes, inputs.reshaped_input_sizes);
  const numPixels = size.width * size.height;
  found.push({
    masks: Array.from({ length: masks.dims[0] * masks.dims[1] }, (_, i) => {
      return Buffer.from(masks.data.slice(i * numPixels, (i + 1) * numPixels)).toString("base64");
    }),
    iouScores: Array.from(iou_scores.data),
    objectScoreLogits: Array.from(object_score_logits.data),
  });
}
console.log(JSON.stringify(found));
