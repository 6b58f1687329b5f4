/**
 * Messages between the page and its server that carry bytes: a header in JSON, and masks or a picture after it.
 *
 * A message is the length of the header (uint32, little-endian), the header in UTF-8, padded with spaces so that what
 * follows begins at a multiple of four bytes, and the payload. Runs of masks are uint32, one object after the other.
 */

/** @typedef {import("./engine.js").Found} Found */

const LENGTH_BYTES = 4;

/**
 * @param {object} header
 * @param {Uint8Array} [payload]
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function encodeMessage(header, payload = new Uint8Array()) {
  const text = new TextEncoder().encode(JSON.stringify(header));
  const numHeaderBytes = Math.ceil(text.length / 4) * 4;
  const message = new Uint8Array(LENGTH_BYTES + numHeaderBytes + payload.length).fill(" ".charCodeAt(0));
  new DataView(message.buffer).setUint32(0, numHeaderBytes, true);
  message.set(text, LENGTH_BYTES);
  message.set(payload, LENGTH_BYTES + numHeaderBytes);
  return message;
}

/**
 * The header and the payload of a message; throws an Error for what is none.
 *
 * @param {ArrayBuffer} message
 * @returns {{ header: any, payload: Uint8Array<ArrayBuffer> }}
 */
export function decodeMessage(message) {
  const numHeaderBytes = message.byteLength < LENGTH_BYTES ? 0 : new DataView(message).getUint32(0, true);
  const start = LENGTH_BYTES + numHeaderBytes;
  if (numHeaderBytes === 0 || start > message.byteLength) {
    throw new Error(`a message of ${message.byteLength} bytes has no whole header`);
  }
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(message, LENGTH_BYTES, numHeaderBytes)));
  return { header, payload: new Uint8Array(message, start) };
}

/**
 * A message with found objects, described in the header's `objects`.
 *
 * @param {object} header
 * @param {Found[]} found
 */
export function encodeFound(header, found) {
  const objects = found.map(({ runs, ...facts }) => ({ ...facts, numRuns: runs.length }));
  return encodeMessage({ ...header, objects }, joinBytes(found.map(({ runs }) => bytesOf(runs))));
}

/**
 * The objects of a message that `encodeFound` made.
 *
 * @param {{ objects: (Omit<Found, "runs"> & { numRuns: number })[] }} header
 * @param {Uint8Array} payload
 * @returns {Found[]}
 */
export function decodeFound(header, payload) {
  const numRuns = header.objects.reduce((sum, object) => sum + object.numRuns, 0);
  if (numRuns * 4 !== payload.length) {
    throw new Error(`a message must have ${numRuns} runs of masks, got ${payload.length / 4}`);
  }
  const runs = new Uint32Array(payload.slice().buffer);
  let start = 0;
  return header.objects.map(({ numRuns, ...facts }) => {
    start += numRuns;
    return { ...facts, runs: runs.slice(start - numRuns, start) };
  });
}

/**
 * The bytes of runs, as they are sent.
 *
 * @param {Uint32Array} runs
 */
export function bytesOf(runs) {
  return new Uint8Array(runs.buffer, runs.byteOffset, runs.byteLength);
}

/**
 * Bytes one after the other.
 *
 * @param {Uint8Array[]} parts
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function joinBytes(parts) {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let start = 0;
  for (const part of parts) {
    joined.set(part, start);
    start += part.length;
  }
  return joined;
}

/**
 * What is sent for a film: which objects are drawn in which colours, then a message for each frame.
 *
 * @param {import("./engine.js").Results} results
 */
export function encodeResults({ objects, frames, on }) {
  const messages = frames.map((frameIdx) => encodeFound({ frameIdx }, on(frameIdx)));
  const sized = messages.flatMap((message) => [bytesOf(Uint32Array.of(message.length)), message]);
  return joinBytes([encodeMessage({ objects }), ...sized]);
}
