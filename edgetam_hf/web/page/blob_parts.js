/** A Blob that grows by small parts, without a copy of everything in memory. */

const CHUNK = 4 << 20; // bytes that are handed to the browser at once, which may move them to the disk

export class BlobParts {
  /** @type {Blob[]} */
  #chunks = [];
  /** @type {Uint8Array<ArrayBuffer>[]} */
  #recent = [];
  #numRecent = 0;
  /** bytes so far */
  length = 0;

  /** @param {string | Uint8Array<ArrayBuffer>} part text is written as UTF-8 */
  add(part) {
    const bytes = typeof part === "string" ? new TextEncoder().encode(part) : part;
    this.#recent.push(bytes);
    this.#numRecent += bytes.length;
    this.length += bytes.length;
    if (this.#numRecent >= CHUNK) this.#flush();
  }

  /**
   * All that was added.
   *
   * @param {string} type
   */
  blob(type) {
    this.#flush();
    return new Blob(this.#chunks, { type });
  }

  #flush() {
    this.#chunks.push(new Blob(this.#recent));
    this.#recent = [];
    this.#numRecent = 0;
  }
}
