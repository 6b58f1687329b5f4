/** A loop over many frames that lets the page go on. */

/** @typedef {import("./engine.js").FoundFrame} FoundFrame */
/** @typedef {import("./engine.js").OnProgress} OnProgress */

const LONGEST_TURN = 30; // ms without a pause

/**
 * Each item, with pauses in between in which the page can draw and the user can stop it.
 *
 * @template T
 * @param {readonly T[]} items
 * @param {OnProgress} onProgress
 * @param {AbortSignal} signal ends it with an AbortError
 * @returns {AsyncGenerator<T, void>}
 */
export async function* inTurns(items, onProgress, signal) {
  let started = performance.now();
  for (let i = 0; i < items.length; i++) {
    signal.throwIfAborted();
    yield items[i];
    if (performance.now() - started < LONGEST_TURN && i + 1 < items.length) continue;
    onProgress(i + 1, items.length);
    await new Promise((resolve) => setTimeout(resolve));
    started = performance.now();
  }
  signal.throwIfAborted();
}
