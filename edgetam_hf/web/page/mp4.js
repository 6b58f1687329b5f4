/** When the frames of an MP4 or MOV file are shown, as its tables say; nothing of the frames themselves is read. */

/**
 * @typedef {object} Timetable
 * @property {Float64Array} times when each frame begins, in seconds from the first one, ascending
 * @property {number} duration of the frames in seconds
 * @property {boolean} hasSound
 */

/**
 * @typedef {object} Box part of a file: its name, and its content
 * @property {string} name
 * @property {DataView} content
 */

const HEADER_BYTES = 16; // of a box with a long size; others have 8
const LARGEST_INDEX = 512 * 2 ** 20; // bytes: more is no index of a video that anybody opens here

/**
 * The timetable of a file; `null` of one in another format, in fragments (whose times are spread over the file), or
 * without pictures.
 *
 * @param {Blob} file
 * @returns {Promise<Timetable | null>}
 */
export async function readTimetable(file) {
  const index = await findIndex(file);
  if (!index) return null;
  const tracks = boxesOf(index).filter(({ name }) => name === "trak").map(({ content }) => content);
  const handlers = tracks.map((track) => nameAt(boxAt(track, "mdia", "hdlr"), 8));
  const video = tracks[handlers.indexOf("vide")];
  if (!video || boxesOf(index).some(({ name }) => name === "mvex")) return null;
  const times = timesOf(video);
  return times && { ...times, hasSound: handlers.includes("soun") };
}

/**
 * The content of the box "moov" of a file.
 *
 * @param {Blob} file
 * @returns {Promise<DataView | null>}
 */
async function findIndex(file) {
  for (let start = 0; start + 8 <= file.size; ) {
    const header = new DataView(await file.slice(start, start + HEADER_BYTES).arrayBuffer());
    const { name, numHeaderBytes, size } = readHeader(header, 0, file.size - start);
    if (!/^[ -~]{4}$/.test(name) || size < numHeaderBytes) return null;
    if (name === "moov") {
      if (size > LARGEST_INDEX) return null;
      return new DataView(await file.slice(start + numHeaderBytes, start + size).arrayBuffer());
    }
    start += size;
  }
  return null;
}

/**
 * @param {DataView} view
 * @param {number} start
 * @param {number} numLeft bytes from the start to the end of what holds the box
 */
function readHeader(view, start, numLeft) {
  const size = view.getUint32(start);
  const name = nameAt(view, start + 4);
  if (size === 1 && start + HEADER_BYTES <= view.byteLength) {
    return { name, numHeaderBytes: HEADER_BYTES, size: Number(view.getBigUint64(start + 8)) };
  }
  return { name, numHeaderBytes: 8, size: size || numLeft };
}

/**
 * @param {DataView} view
 * @returns {Box[]}
 */
function boxesOf(view) {
  const boxes = [];
  for (let start = 0; start + 8 <= view.byteLength; ) {
    const { name, numHeaderBytes, size } = readHeader(view, start, view.byteLength - start);
    const numBytes = Math.min(size, view.byteLength - start) - numHeaderBytes;
    if (numBytes < 0) break;
    boxes.push({ name, content: new DataView(view.buffer, view.byteOffset + start + numHeaderBytes, numBytes) });
    start += size;
  }
  return boxes;
}

/**
 * The content of a box inside of boxes, empty if there is none.
 *
 * @param {DataView} view
 * @param {...string} names from the outside to the inside
 * @returns {DataView}
 */
function boxAt(view, ...names) {
  return names.reduce((inside, wanted) => {
    return boxesOf(inside).find(({ name }) => name === wanted)?.content ?? new DataView(new ArrayBuffer(0));
  }, view);
}

/**
 * @param {DataView} view
 * @param {number} start
 */
function nameAt(view, start) {
  if (start + 4 > view.byteLength) return "";
  return String.fromCharCode(...[0, 1, 2, 3].map((i) => view.getUint8(start + i)));
}

/**
 * @param {DataView} track
 * @returns {Omit<Timetable, "hasSound"> | null}
 */
function timesOf(track) {
  const header = boxAt(track, "mdia", "mdhd");
  const table = boxAt(track, "mdia", "minf", "stbl");
  const durations = entriesOf(boxAt(table, "stts"));
  if (header.byteLength === 0 || durations.length === 0) return null;
  const timescale = header.getUint32(header.getUint8(0) === 1 ? 20 : 12);
  const offsets = entriesOf(boxAt(table, "ctts")); // from decoding to showing; absent where both have one order
  const start = startOf(boxAt(track, "edts", "elst"));
  let now = 0;
  const shown = durations.map((duration, i) => {
    now += duration;
    return now - duration + (offsets[i] ?? 0);
  });
  const ticks = Float64Array.from(shown).sort().filter((time) => time >= start);
  if (ticks.length === 0) return null;
  const last = ticks.length > 1 ? ticks[ticks.length - 1] - ticks[ticks.length - 2] : durations[0];
  return {
    times: ticks.map((time) => (time - ticks[0]) / timescale),
    duration: (ticks[ticks.length - 1] - ticks[0] + last) / timescale,
  };
}

/**
 * A number for each frame, from a table of (how many frames, number).
 *
 * @param {DataView} table
 * @returns {number[]}
 */
function entriesOf(table) {
  const numbers = [];
  const numEntries = table.byteLength < 8 ? 0 : Math.min(table.getUint32(4), Math.floor((table.byteLength - 8) / 8));
  for (let entry = 0; entry < numEntries; entry++) {
    const [count, value] = [table.getUint32(8 + entry * 8), table.getInt32(12 + entry * 8)];
    for (let i = 0; i < count; i++) numbers.push(value);
  }
  return numbers;
}

/**
 * The time of a track, in its ticks, at which it begins to be shown.
 *
 * @param {DataView} edits
 */
function startOf(edits) {
  if (edits.byteLength < 8) return 0;
  const isLong = edits.getUint8(0) === 1;
  const numBytes = isLong ? 20 : 12;
  for (let entry = 8; entry + numBytes <= edits.byteLength; entry += numBytes) {
    const time = isLong ? Number(edits.getBigInt64(entry + 8)) : edits.getInt32(entry + 4);
    if (time >= 0) return time; // -1 is a pause before the start
  }
  return 0;
}
