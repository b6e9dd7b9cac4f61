import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { appendFileSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, describe, test } from "node:test";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { parseJson } from "../../dist/base/json.js";
import { readRegularFile, readRegularFileSync } from "../../dist/base/regular_file.js";
import { describeSystemError, systemCode } from "../../dist/base/system_errors.js";
import { showValue } from "../../dist/base/text.js";

const folder = mkdtempSync(path.join(tmpdir(), "shardspeed-files-"));
after(() => rmSync(folder, { recursive: true }));
const at = (name: string) => path.join(folder, name);
const rules = { code: "ERR_CONFIG", limitBytes: 1000 } as const;

async function refused(file: string, message: RegExp): Promise<void> {
  await assert.rejects(readRegularFile(file, rules), { code: "ERR_CONFIG", message });
  assert.throws(() => readRegularFileSync(file, rules), { code: "ERR_CONFIG", message });
}

describe("small files of strangers", () => {
  test("bytes are as they were written, whatever they are", async () => {
    const file = at("any");
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: rules.limitBytes }), async (bytes) => {
        writeFileSync(file, bytes);
        assert.deepEqual(new Uint8Array((await readRegularFile(file, rules)) as Buffer), bytes);
        assert.deepEqual(new Uint8Array(readRegularFileSync(file, rules) as Buffer), bytes);
      }),
      { numRuns: 100 },
    );
  });

  test("what is not there is undefined", async () => {
    for (const file of [at("nowhere"), at("any/below")]) {
      assert.equal(await readRegularFile(file, rules), undefined);
      assert.equal(readRegularFileSync(file, rules), undefined);
    }
  });

  test("a pipe, devices, a folder, and links to them, are refused before they are read", async () => {
    execFileSync("mkfifo", [at("pipe")]);
    const places: [string, RegExp][] = [
      [at("pipe"), /is a pipe, expected a regular file$/],
      ["/dev/zero", /: is a device, expected a regular file$/],
      [folder, /is a folder, expected a regular file$/],
    ];
    for (const [i, [place, message]] of places.entries()) {
      symlinkSync(place, at(`link${i}`));
      await refused(place, message);
      await refused(at(`link${i}`), message);
    }
  });

  test("a git-lfs pointer in the place of a file is named, whatever the file would be", async () => {
    const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n";
    writeFileSync(at("pointer"), pointer);
    await refused(at("pointer"), /pointer: is a git-lfs pointer.*git lfs pull/);
    writeFileSync(at("about"), `# ${pointer}`);
    assert.equal(String(await readRegularFile(at("about"), rules)), `# ${pointer}`);
  });

  test("a link that leads in a circle is an error with an absolute path", async () => {
    symlinkSync(at("circle"), at("circle"));
    await refused(path.relative(process.cwd(), at("circle")), /^\/.*circle: its links go round in a circle \(ELOOP\)$/);
  });

  test("the limit is what may be read, not one byte more", async () => {
    writeFileSync(at("full"), "x".repeat(rules.limitBytes));
    assert.equal((await readRegularFile(at("full"), rules))?.length, rules.limitBytes);
    appendFileSync(at("full"), "y");
    await refused(at("full"), /is 1001 bytes long, expected at most 1000 bytes$/);
  });

  test("a file that states no size is read up to the limit", { skip: process.platform !== "linux" }, async () => {
    const lax = { ...rules, limitBytes: 2 ** 20 };
    assert.match(String(await readRegularFile("/proc/self/status", lax)), /^Name:/);
    assert.match(String(readRegularFileSync("/proc/self/status", lax)), /^Name:/);
    await assert.rejects(
      readRegularFile("/proc/self/status", { ...rules, limitBytes: 10 }),
      /is longer, expected at most 10/,
    );
  });

  test("a signal ends it", async () => {
    writeFileSync(at("some"), "text");
    const signal = AbortSignal.abort();
    await assert.rejects(readRegularFile(at("some"), { ...rules, signal }), { code: "ERR_ABORTED" });
  });
});

describe("nested JSON", () => {
  const nested = (levels: number) => "[".repeat(levels) + "]".repeat(levels);

  test("a thousand levels are read; more are typed, in arrays, objects and between strings", () => {
    parseJson(nested(1000), "x", "ERR_CONFIG");
    for (const text of [nested(1001), nested(500_000), `{"a\\\\":"[\\"","b":${nested(1000)}}`]) {
      assert.throws(() => parseJson(text, "x", "ERR_CONFIG"), {
        code: "ERR_CONFIG",
        message: "x is nested deeper than 1000 levels",
      });
    }
    const objects = `${'{"a":'.repeat(2000)}1${"}".repeat(2000)}`;
    assert.throws(() => parseJson(objects, "x", "ERR_CONFIG"), { message: /nested deeper/ });
  });

  test("brackets in strings are no levels", () => {
    fc.assert(
      fc.property(fc.json(), fc.string(), (json, text) => {
        const whole = `{${JSON.stringify(text)}:${JSON.stringify(`${"[{".repeat(600)}"\\${text}`)},"":${json}}`;
        assert.deepEqual(parseJson(whole, "x", "ERR_CONFIG"), JSON.parse(whole));
      }),
    );
  });

  test("a message shows a value of any depth", () => {
    let deep: unknown = 1;
    for (let i = 0; i < 100_000; i++) deep = i % 2 ? { a: deep } : [deep];
    assert.equal(showValue(deep), "{...}");
    assert.equal(showValue([deep]), "[...]");
    assert.equal(showValue({ a: [1, { b: 2 }] }), '{"a":[1,{"b":2}]}');
  });
});

test("errors of another realm count, as Node's own do where a test runner has a context of its own", () => {
  const foreign: unknown = runInNewContext('Object.assign(new Error("gone"), { code: "ENOENT" })');
  assert.ok(!(foreign instanceof Error));
  assert.equal(systemCode(foreign), "ENOENT");
  assert.match(describeSystemError(foreign), /^there is no such file or folder .*\(ENOENT\)$/);
  assert.equal(systemCode({ code: "ENOENT" }), "");
});
