/** The timetables of video files, whose paths a job has, as JSON. */
import { readFile } from "node:fs/promises";
import { readTimetable } from "../../edgetam_hf/web/page/mp4.js";

const paths = JSON.parse(await readFile(process.argv[2], "utf8"));
const tables = await Promise.all(paths.map(async (path) => readTimetable(new Blob([await readFile(path)]))));
console.log(JSON.stringify(tables.map((table) => table && { ...table, times: [...table.times] })));
