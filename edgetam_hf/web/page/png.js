/** PNG files of index pictures: the value of a pixel is the number of the object that it shows. */
import { crc32 } from "./crc32.js";

/** @typedef {import("../types.js").Size} Size */

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const GREY = 0;
const PALETTE = 3;

/**
 * Bytes of a PNG of 8 bits with a palette.
 *
 * @param {Uint8Array} indices (height, width), row by row
 * @param {Size} size
 * @param {number[][]} palette [index][red, green, blue], at most 256
 */
export async function palettePng(indices, size, palette) {
  const rows = rowsOf(indices, size.width, size.height);
  return join(size, 8, PALETTE, [chunk("PLTE", Uint8Array.from(palette.flat())), chunk("IDAT", await deflate(rows))]);
}

/**
 * Bytes of a grey PNG of 16 bits.
 *
 * @param {Uint16Array} indices (height, width), row by row
 * @param {Size} size
 */
export async function greyPng(indices, size) {
  const bytes = new Uint8Array(2 * indices.length);
  indices.forEach((index, i) => {
    bytes[2 * i] = index >> 8;
    bytes[2 * i + 1] = index & 255;
  });
  return join(size, 16, GREY, [chunk("IDAT", await deflate(rowsOf(bytes, 2 * size.width, size.height)))]);
}

/**
 * Rows that each begin with the kind of their filter, which is none.
 *
 * @param {Uint8Array} bytes
 * @param {number} rowLength
 * @param {number} numRows
 */
function rowsOf(bytes, rowLength, numRows) {
  const rows = new Uint8Array((rowLength + 1) * numRows);
  for (let y = 0; y < numRows; y++) {
    rows.set(bytes.subarray(y * rowLength, (y + 1) * rowLength), y * (rowLength + 1) + 1);
  }
  return rows;
}

/** @param {Uint8Array<ArrayBuffer>} bytes */
async function deflate(bytes) {
  const compressed = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(compressed).arrayBuffer());
}

/**
 * @param {string} name
 * @param {Uint8Array} data
 */
function chunk(name, data) {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(name), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

/**
 * @param {Size} size
 * @param {number} numBits of a pixel
 * @param {number} colourType
 * @param {Uint8Array[]} chunks
 */
function join({ width, height }, numBits, colourType, chunks) {
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, numBits);
  header.setUint8(9, colourType);
  const all = [
    Uint8Array.from(SIGNATURE), chunk("IHDR", new Uint8Array(header.buffer)), ...chunks, chunk("IEND", new Uint8Array()),
  ];
  const bytes = new Uint8Array(all.reduce((length, part) => length + part.length, 0));
  let position = 0;
  for (const part of all) {
    bytes.set(part, position);
    position += part.length;
  }
  return bytes;
}
