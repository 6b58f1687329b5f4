/** The check sum of PNG and ZIP files. */

const POLYNOMIAL = 0xedb88320;
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let remainder = byte;
  for (let bit = 0; bit < 8; bit++) remainder = remainder & 1 ? (remainder >>> 1) ^ POLYNOMIAL : remainder >>> 1;
  return remainder;
});

/**
 * CRC-32 of parts, one after the other.
 *
 * @param {...Uint8Array} parts
 */
export function crc32(...parts) {
  let remainder = 0xffffffff;
  for (const part of parts) {
    for (let i = 0; i < part.length; i++) remainder = TABLE[(remainder ^ part[i]) & 255] ^ (remainder >>> 8);
  }
  return (remainder ^ 0xffffffff) >>> 0;
}
