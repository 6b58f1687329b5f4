/** Documents of the page that tests have written as JSON, with lists in place of arrays of runs. */

/** @param {any} described */
export function readDescribed(described) {
  const runs = (list) => list && Uint32Array.from(list);
  return {
    ...described,
    prompts: described.prompts.map((said) => (
      { ...said, prompts: said.prompts.map((prompt) => ({ ...prompt, mask: runs(prompt.mask) })) }
    )),
    frames: described.frames.map((frame) => (
      { ...frame, objects: frame.objects.map((found) => ({ ...found, runs: runs(found.runs) })) }
    )),
  };
}
