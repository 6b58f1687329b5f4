/** What users give, checked at the door. */

/**
 * The integer; throws a TypeError for anything else.
 *
 * @param {unknown} value
 * @param {string} name
 * @returns {number}
 */
export function readInteger(value, name) {
  if (typeof value !== "number" || !Number.isSafeInteger(value)) {
    throw new TypeError(`${name} must be an integer, got ${describe(value)}`);
  }
  return value;
}

/**
 * An integer that is at least `least`; throws a TypeError or a RangeError otherwise.
 *
 * @param {unknown} value
 * @param {string} name
 * @param {number} [least]
 * @returns {number}
 */
export function readCount(value, name, least = 1) {
  const count = readInteger(value, name);
  if (count < least) throw new RangeError(`${name} must be at least ${least}, got ${count}`);
  return count;
}

/**
 * A number from 0 to `most`; throws a TypeError or a RangeError otherwise.
 *
 * @param {unknown} value
 * @param {string} name
 * @param {number} most
 * @returns {number}
 */
export function readAmount(value, name, most) {
  if (typeof value !== "number") throw new TypeError(`${name} must be a number, got ${describe(value)}`);
  if (!(value >= 0 && value <= most)) throw new RangeError(`${name} must be in 0..${most}, got ${value}`);
  return value;
}

/**
 * A new list of integers, each once, from one id or a list of ids.
 *
 * @param {unknown} objectIds
 * @returns {number[]}
 */
export function readObjectIds(objectIds) {
  const given = Array.isArray(objectIds) ? objectIds : [objectIds];
  const ids = given.map((id) => readInteger(id, "an object id"));
  if (ids.length === 0) throw new RangeError("objectIds is empty: give the id of at least one object");
  if (new Set(ids).size < ids.length) throw new RangeError(`objectIds must name every object once, got ${ids}`);
  return ids;
}

/**
 * Finite numbers, `length` of them; throws a TypeError otherwise.
 *
 * @param {unknown} values
 * @param {number} length
 * @param {string} name
 * @param {string} layout what the numbers are, for the message
 * @returns {number[]}
 */
export function readNumbers(values, length, name, layout) {
  const numbers = Array.isArray(values) || ArrayBuffer.isView(values) ? Array.from(/** @type {any} */ (values)) : null;
  if (!numbers || numbers.length !== length || !numbers.every(Number.isFinite)) {
    throw new TypeError(`${name} must be ${layout}, ${length} finite numbers, got ${describe(values)}`);
  }
  return numbers;
}

/**
 * The list; throws a TypeError for anything else.
 *
 * @param {unknown} value
 * @param {string} name
 * @param {string} layout what it should be, for the message
 * @returns {unknown[]}
 */
export function readList(value, name, layout) {
  if (!Array.isArray(value)) throw new TypeError(`${name} must be ${layout}, got ${describe(value)}`);
  return value;
}

/**
 * A value in few words, for messages.
 *
 * @param {unknown} value
 * @returns {string}
 */
export function describe(value) {
  if (Array.isArray(value) || ArrayBuffer.isView(value)) {
    const list = Array.from(/** @type {any} */ (value));
    return list.length > 4 ? `${value.constructor.name} of ${list.length}` : `[${list.map(describe).join(", ")}]`;
  }
  if (typeof value === "object" && value !== null) return value.constructor?.name ?? "an object";
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}
