/** Messages of a page, of objects in a job, and the objects of a message of the server, as JSON. */
import { readFile } from "node:fs/promises";
import { decodeFound, decodeMessage, encodeFound } from "../../edgetam_hf/web/page/messages.js";

const { header, objects, message } = JSON.parse(await readFile(process.argv[2], "utf8"));
const found = objects.map(({ runs, ...facts }) => ({ ...facts, runs: Uint32Array.from(runs) }));
const received = decodeMessage(Uint8Array.from(Buffer.from(message, "base64")).buffer);
const read = decodeFound(received.header, received.payload).map(({ runs, ...facts }) => ({ ...facts, runs: [...runs] }));
const broken = [new ArrayBuffer(2), Uint32Array.of(99).buffer].map((bytes) => {
  try {
    return decodeMessage(bytes);
  } catch (error) {
    return error.message;
  }
});
const sent = Buffer.from(encodeFound(header, found)).toString("base64");
console.log(JSON.stringify({ sent, header: received.header, read, broken }));
