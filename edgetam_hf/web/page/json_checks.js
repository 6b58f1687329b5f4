/** Values of a project file, checked: what is wrong with one is said by its place in the file. */

/**
 * @param {any} value
 * @returns {value is Record<string, any>}
 */
export function isRecord(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * An object with just these keys.
 *
 * @param {any} value
 * @param {string} name
 * @param {string[]} keys
 * @returns {any}
 */
export function readRecord(value, name, keys) {
  const given = isRecord(value) ? Object.keys(value) : [];
  const isSame = isRecord(value) && given.length === keys.length && keys.every((key) => Object.hasOwn(value, key));
  check(isSame, name, `have just ${keys.join(", ")}`, isRecord(value) ? given.join(", ") : value);
  return value;
}

/**
 * @template T
 * @param {any} value
 * @param {string} name
 * @param {(item: any, name: string) => T} readItem
 * @returns {T[]}
 */
export function readList(value, name, readItem) {
  check(Array.isArray(value), name, "be a list", value);
  return value.map((/** @type {any} */ item, /** @type {number} */ idx) => readItem(item, `${name}[${idx}]`));
}

/**
 * @param {any} value
 * @param {string} name
 * @param {number} length
 * @returns {number[]}
 */
export function readNumbers(value, name, length) {
  const numbers = readList(value, name, readNumber);
  check(numbers.length === length, name, `have ${length} numbers`, numbers.length);
  return numbers;
}

/**
 * @param {any} value
 * @param {string} name
 * @returns {number}
 */
export function readNumber(value, name) {
  check(Number.isFinite(value), name, "be a number", value);
  return value;
}

/**
 * @param {any} value
 * @param {string} name
 * @param {number} least
 * @param {number} most
 * @returns {number}
 */
export function readCount(value, name, least, most) {
  check(Number.isInteger(value) && value >= least && value <= most, name, `be in ${least}..${most}`, value);
  return value;
}

/**
 * @param {any} value
 * @param {string} name
 * @returns {string}
 */
export function readText(value, name) {
  check(typeof value === "string", name, "be text", value);
  return value;
}

/**
 * @param {any} value
 * @param {string} name
 * @returns {boolean}
 */
export function readFlag(value, name) {
  check(typeof value === "boolean", name, "be true or false", value);
  return value;
}

/**
 * @param {boolean} isRight
 * @param {string} name
 * @param {string} expected
 * @param {any} value
 */
export function check(isRight, name, expected, value) {
  if (isRight) return;
  const text = Array.isArray(value) ? "a list" : isRecord(value) ? "a record" : (JSON.stringify(value) ?? "nothing");
  throw new Error(`The project is damaged: ${name} must ${expected}, got ${text.slice(0, 60)}.`);
}
