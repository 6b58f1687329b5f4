/** ZIP archives of files that are compressed already, such as PNG: they are stored as they are. */
import { BlobParts } from "./blob_parts.js";
import { crc32 } from "./crc32.js";

/**
 * @typedef {object} Entry
 * @property {string} name with / between folders; a name that is taken gets a number
 * @property {Uint8Array<ArrayBuffer>} bytes
 */

const VERSION = 45; // 4.5 of the format, which has archives of more than 65534 files
const UTF8_NAMES = 1 << 11;
const DATE = (1 << 5) | 1; // 1980-01-01: the same files make the same archive
const MOST_BYTES = 0xfffffffe;
const MOST_FILES = 0xfffe;

/**
 * A ZIP archive.
 *
 * @param {AsyncIterable<Entry>} entries
 * @returns {Promise<Blob>}
 */
export async function zip(entries) {
  const parts = new BlobParts();
  const directory = new BlobParts();
  let numFiles = 0;
  for await (const { name, bytes } of entries) {
    const encoded = new TextEncoder().encode(name);
    const common = commonFields(encoded, bytes);
    const offset = parts.length;
    if (offset + directory.length + bytes.length + 4 * encoded.length > MOST_BYTES) {
      throw new Error("The files are larger than 4 GB together, more than a ZIP archive of this page holds");
    }
    parts.add(fields([4, 0x04034b50], ...common));
    parts.add(encoded);
    parts.add(bytes);
    directory.add(fields([4, 0x02014b50], [2, VERSION], ...common, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]));
    directory.add(encoded);
    numFiles++;
  }
  const end = endOf(numFiles, directory.length, parts.length);
  return new Blob([parts.blob(""), directory.blob(""), end], { type: "application/zip" });
}

/**
 * What the header of a file and its entry in the directory share.
 *
 * @param {Uint8Array} name
 * @param {Uint8Array} bytes
 * @returns {number[][]}
 */
function commonFields(name, bytes) {
  return [
    [2, VERSION], [2, UTF8_NAMES], [2, 0], [2, 0], [2, DATE],
    [4, crc32(bytes)], [4, bytes.length], [4, bytes.length], [2, name.length], [2, 0],
  ];
}

/**
 * The end of an archive; one of many files has its number in a longer record before.
 *
 * @param {number} numFiles
 * @param {number} directoryLength
 * @param {number} directoryStart
 */
function endOf(numFiles, directoryLength, directoryStart) {
  const place = [[4, directoryLength], [4, directoryStart]];
  if (numFiles <= MOST_FILES) {
    return fields([4, 0x06054b50], [2, 0], [2, 0], [2, numFiles], [2, numFiles], ...place, [2, 0]);
  }
  const number = [[4, numFiles], [4, 0]];
  const longPlace = place.flatMap((field) => [field, [4, 0]]);
  return fields(
    [4, 0x06064b50], [4, 44], [4, 0], [2, VERSION], [2, VERSION], [4, 0], [4, 0], ...number, ...number, ...longPlace,
    [4, 0x07064b50], [4, 0], [4, directoryStart + directoryLength], [4, 0], [4, 1],
    [4, 0x06054b50], [2, 0], [2, 0], [2, 0xffff], [2, 0xffff], ...place, [2, 0],
  );
}

/**
 * Bytes of numbers, [length, number], the lowest byte first.
 *
 * @param {...number[]} numbers
 */
function fields(...numbers) {
  const bytes = new Uint8Array(numbers.reduce((length, [size]) => length + size, 0));
  let position = 0;
  for (const [size, number] of numbers) {
    for (let byte = 0; byte < size; byte++) bytes[position++] = (number >>> (8 * byte)) & 255;
  }
  return bytes;
}
