import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { test } from "node:test";
import { WorkerOutput } from "../../../dist/serving/worker/output.js";

/** An output by a clock that the test sets. */
function makeOutput() {
  const clock = { ms: 0 };
  const lines: string[] = [];
  const reports: string[] = [];
  const output = new WorkerOutput(
    (line) => void lines.push(line),
    (message) => void reports.push(message),
    () => clock.ms,
  );
  const read = (chunks: (string | Buffer)[], prefix = "") =>
    output.read(
      Readable.from(
        chunks.map((chunk) => Buffer.from(chunk as string)),
        { objectMode: true },
      ),
      prefix,
      () => {},
    );
  return { clock, lines, reports, output, read };
}

/** How many lines and bytes the reports say are left out. */
function leftOut(reports: readonly string[]): { lines: number; bytes: number } {
  const found = reports.map((text) => /^(\d+) lines of the worker \((\d+) bytes\)/.exec(text) ?? assert.fail(text));
  const sum = (at: number) => found.reduce((all, match) => all + Number(match[at]), 0);
  return { lines: sum(1), bytes: sum(2) };
}

test("lines pass as they are, whatever chunks they come in", async () => {
  const { lines, reports, read } = makeOutput();
  const text = "one\n\nthrée\nlast without an end";
  const bytes = Buffer.from(text);
  await read(
    Array.from(bytes, (_, i) => bytes.subarray(i, i + 1)),
    "[rank 1] ",
  );
  await read([text]);
  const expected = text.split("\n");
  assert.deepEqual(lines, [...expected.map((line) => `[rank 1] ${line}`), ...expected]);
  assert.deepEqual(reports, []);
});

test("a long line is cut, with what is missing, and the next one is whole", async () => {
  const { lines, read, output } = makeOutput();
  await read(["a".repeat(5000), "a".repeat(5000), "\nnext\n"]);
  assert.deepEqual(lines, [`${"a".repeat(8192)}... (1808 bytes more)`, "next"]);
  output.line("b".repeat(8200));
  assert.equal(lines[2], `${"b".repeat(8192)}... (8 bytes more)`);
});

test("of a flood a bounded part passes, and the rest is counted to the line and byte", async () => {
  const { lines, reports, read } = makeOutput();
  const chunk = Buffer.from("0123456789\n".repeat(6000)).subarray(0, 65_531); // ends inside a line
  const rest = Buffer.from("0123456789\n".repeat(6000)).subarray(65_531);
  await read(Array.from({ length: 200 }, (_, i) => (i % 2 === 0 ? chunk : rest)));
  assert.equal(lines.length, (256 * 1024) / 64);
  assert.deepEqual(new Set(lines), new Set(["0123456789"]));
  const all = 100 * 6000;
  assert.equal(leftOut(reports).lines, all - lines.length);
  const bytes = leftOut(reports).bytes;
  const expected = (all - lines.length) * 11;
  assert.ok(bytes <= expected && bytes >= expected - all, `${bytes} of ${expected}: line ends may not be counted`);
});

test("lines pass again when the flood is over", async () => {
  const { clock, lines, reports, read, output } = makeOutput();
  await read(["x".repeat(1000).concat("\n").repeat(1000)]);
  const passed = lines.length;
  assert.equal(passed + leftOut(reports).lines, 1000);
  output.line("too soon");
  assert.equal(lines.length, passed);
  clock.ms += 1000;
  output.line("said later");
  assert.equal(lines.at(-1), "said later");
});

test("a flood without any line end is one line", async () => {
  const { lines, reports, read } = makeOutput();
  await read([...Array.from({ length: 500 }, () => "y".repeat(65_536)), "\nend\n"]);
  assert.equal(lines.length, 2);
  assert.match(lines[0] as string, /^y{8192}\.\.\. \(32759808 bytes more\)$/);
  assert.deepEqual([lines[1], reports], ["end", []]);
});
