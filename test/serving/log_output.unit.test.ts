import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { LogOutput } from "../../dist/serving/log_output.js";

let folder: string;
before(() => {
  folder = mkdtempSync(path.join(tmpdir(), "log-"));
});
after(() => rmSync(folder, { recursive: true }));

async function until(isSo: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !isSo(); i++) await sleep(10);
  assert.ok(isSo());
}

function makePipe(name: string): { reader: number; writer: number } {
  const file = path.join(folder, name);
  execFileSync("mkfifo", [file]);
  const reader = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
  return { reader, writer: openSync(file, constants.O_WRONLY) };
}

/** A number that a thread still writes to would soon be another file's. */
async function close(output: LogOutput, reader: number, writer: number): Promise<void> {
  await sleep(100);
  output.close(writer);
  for (const fd of [reader, writer]) closeSync(fd);
}

/** What a pipe holds now. */
function readAll(reader: number): string {
  const chunk = Buffer.alloc(1 << 20);
  let text = "";
  for (;;) {
    try {
      const count = readSync(reader, chunk);
      if (count === 0) return text;
      text += chunk.toString("latin1", 0, count);
    } catch {
      return text;
    }
  }
}

describe("the output of a log", () => {
  test("has all lines in order, also those of the end", async () => {
    const file = path.join(folder, "file");
    const fd = openSync(file, "w");
    const output = new LogOutput(fd);
    for (let i = 0; i < 100; i++) output.write(`${i}\n`);
    await until(() => readFileSync(file, "utf8").endsWith("99\n"));
    output.write("last\n");
    output.flush();
    const expected = [...Array.from({ length: 100 }, (_, i) => String(i)), "last", ""];
    assert.deepEqual(readFileSync(file, "utf8").split("\n"), expected);
    closeSync(fd);
  });

  test("drops lines while its reader does not read, and says how many", async () => {
    const { reader, writer } = makePipe("stalled");
    const output = new LogOutput(writer, { mostWaitingBytes: 100_000, retryMs: 5 });
    const line = `${"x".repeat(999)}\n`;
    for (let i = 0; i < 300; i++) {
      output.write(line);
      if (i % 50 === 0) await sleep(10);
    }
    let text = "";
    let more = 0;
    await until(() => {
      text += readAll(reader);
      output.write("more\n");
      more++;
      return text.endsWith("more\n");
    });
    const dropped = Number(/"(\d+) lines of the log were dropped: the reader does not read"/.exec(text)?.[1]);
    const lines = text.split("\n");
    // Of what was written before the first line that was seen.
    const seen = lines.filter((one) => one === "more" || one === line.trim()).length;
    assert.ok(dropped > 0);
    assert.ok(seen + dropped <= 300 + more && seen + dropped > 300, `${seen} ${dropped} ${more}`);
    await close(output, reader, writer);
  });

  test("does not wait at the end for a reader that does not read", async () => {
    const { reader, writer } = makePipe("stuck");
    const output = new LogOutput(writer);
    output.write("x".repeat(1_000_000));
    await sleep(20);
    output.flush();
    await close(output, reader, writer);
  });

  test("goes on without a reader that has gone", async () => {
    const { reader, writer } = makePipe("gone");
    const output = new LogOutput(writer);
    closeSync(reader);
    output.write("a\n");
    await sleep(50);
    output.write("b\n");
    output.flush();
    output.close(writer);
    closeSync(writer);
  });

  test("goes on where the disk is full, and says so once there is room", async () => {
    const program = `
      import { openSync, writeSync, ftruncateSync } from "node:fs";
      import { setTimeout as sleep } from "node:timers/promises";
      import { LogOutput } from ${JSON.stringify(new URL("../../dist/serving/log_output.js", import.meta.url).href)};
      const fd = openSync(${JSON.stringify(path.join(folder, "limited"))}, "a");
      const output = new LogOutput(fd);
      output.write("x".repeat(8000) + "\\n");
      await sleep(50);
      output.write("lost\\n".repeat(2000));
      await sleep(50);
      ftruncateSync(fd, 0);
      output.write("again\\n");
      await sleep(50);
      console.log("alive");
    `;
    // A limit on the size of files: 9 kB. The signal that comes with it is ignored, as Node's users may have it.
    const limited = 'trap "" XFSZ; ulimit -f 9; exec "$0" --input-type=module -e "$1"';
    const child = spawn("bash", ["-c", limited, process.execPath, program]);
    let out = "";
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (data) => {
        out += data;
      });
    await new Promise((resolve) => child.on("close", resolve));
    assert.match(out, /alive/);
    const lines = readFileSync(path.join(folder, "limited"), "utf8").trim().split("\n");
    assert.match(lines[0] as string, /\d+ lines of the log were dropped: EFBIG/);
    assert.equal(lines.at(-1), "again");
  });
});
