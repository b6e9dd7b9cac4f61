import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { promisify } from "node:util";
import { ShardspeedError } from "../../dist/base/errors.js";
import { readSecret } from "../../dist/launch/secret.js";

const oneHost = { worldSize: 4, localWorldSize: 4 };
const key = "0f".repeat(32);

let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "shardspeed-test-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

test("SHARDSPEED_SECRET is taken as it is", () => {
  const env = { SHARDSPEED_SECRET: "sixteen letters!", XDG_STATE_HOME: folder };
  assert.equal(readSecret(oneHost, env).toString(), "sixteen letters!");
  assert.equal(readSecret({ worldSize: 4, localWorldSize: 1 }, env).toString(), "sixteen letters!");
  assert.deepEqual(readdirSync(folder), []);
});

test("a short one is refused, and none where the ranks are on several hosts", () => {
  assert.throws(
    () => readSecret(oneHost, { SHARDSPEED_SECRET: "fifteen letters" }),
    isConfigError(/15 characters.*at least 16/),
  );
  const many = { worldSize: 4, localWorldSize: 2 };
  assert.throws(
    () => readSecret(many, { XDG_STATE_HOME: folder }),
    isConfigError(/SHARDSPEED_SECRET.*same value on all ranks/),
  );
});

describe("the key file of one host", () => {
  const read = (env: NodeJS.ProcessEnv = {}) => readSecret(oneHost, { XDG_STATE_HOME: folder, ...env });
  const file = () => path.join(folder, "shardspeed", "secret");
  const prepare = (text: string, mode = 0o600, folderMode = 0o700) => {
    mkdirSync(path.dirname(file()));
    writeFileSync(file(), text);
    chmodSync(file(), mode);
    chmodSync(path.dirname(file()), folderMode);
  };

  test("is made once, for its user alone", () => {
    const secret = read();
    assert.equal(secret.length, 32);
    assert.deepEqual(read(), secret);
    assert.equal(readFileSync(file(), "utf8"), `${secret.toString("hex")}\n`);
    assert.equal(statSync(file()).mode & 0o777, 0o600);
    assert.equal(statSync(path.dirname(file())).mode & 0o777, 0o700);
    assert.deepEqual(readdirSync(path.dirname(file())), ["secret"]);
  });

  test("lies in the home where XDG_STATE_HOME is not set, or relative", () => {
    const secret = read({ XDG_STATE_HOME: undefined, HOME: folder });
    const text = readFileSync(path.join(folder, ".local/state/shardspeed/secret"), "utf8");
    assert.equal(text.trim(), secret.toString("hex"));
    assert.deepEqual(read({ XDG_STATE_HOME: "relative", HOME: folder }), secret);
  });

  test("lies with temporary files where the home cannot be used", async () => {
    writeFileSync(path.join(folder, "home"), "a file, no folder");
    const script = `
      const { readSecret } = await import(process.argv[1]);
      process.stdout.write(readSecret({ worldSize: 2, localWorldSize: 2 }).toString("hex"));`;
    const env = {
      ...process.env,
      HOME: path.join(folder, "home"),
      XDG_STATE_HOME: "",
      SHARDSPEED_SECRET: "",
      TMPDIR: folder,
    };
    const args = ["--input-type=module", "-e", script, new URL("../../dist/launch/secret.js", import.meta.url).href];
    const { stdout } = await promisify(execFile)(process.execPath, args, { env });
    const text = readFileSync(path.join(folder, `shardspeed-${process.geteuid?.()}`, "secret"), "utf8");
    assert.equal(text, `${stdout}\n`);
  });

  test("is the same for ranks that start together", async () => {
    const script = `
      const { readSecret } = await import(process.argv[1]);
      process.stdout.write(readSecret({ worldSize: 2, localWorldSize: 2 }).toString("hex"));`;
    const env = { ...process.env, XDG_STATE_HOME: folder, SHARDSPEED_SECRET: "" };
    const args = ["--input-type=module", "-e", script, new URL("../../dist/launch/secret.js", import.meta.url).href];
    const outcomes = await Promise.all(
      Array.from({ length: 8 }, () => promisify(execFile)(process.execPath, args, { env })),
    );
    const keys = new Set(outcomes.map(({ stdout }) => stdout));
    assert.equal(keys.size, 1);
    assert.match([...keys][0] ?? "", /^[0-9a-f]{64}$/);
    assert.deepEqual(readdirSync(path.dirname(file())), ["secret"]);
  });

  test("is not taken where others could know it", () => {
    prepare(key, 0o640);
    assert.throws(() => read(), isConfigError(/secret: its mode is 640.*chmod 600/));
    chmodSync(file(), 0o600);
    assert.equal(read().toString("hex"), key);
    for (const mode of [0o604, 0o602, 0o601, 0o620, 0o610]) {
      chmodSync(file(), mode);
      assert.throws(() => read(), isConfigError(/secret: its mode is 6/), mode.toString(8));
    }
    chmodSync(file(), 0o600);
    chmodSync(path.dirname(file()), 0o755);
    assert.throws(() => read(), isConfigError(/shardspeed: its mode is 755.*chmod 700/));
  });

  test("is not taken where it is something else", () => {
    prepare("");
    assert.throws(() => read(), isConfigError(/64 hexadecimal digits/));
    writeFileSync(file(), `${key}00`);
    assert.throws(() => read(), isConfigError(/64 hexadecimal digits/));
  });

  test("is no symbolic link, nor is its folder", async () => {
    const real = path.join(folder, "real");
    writeFileSync(real, key, { mode: 0o600 });
    mkdirSync(path.dirname(file()), { mode: 0o700 });
    symlinkSync(real, file());
    assert.throws(() => read(), isConfigError(/symbolic link/));
    await rm(path.dirname(file()), { recursive: true });
    mkdirSync(path.join(folder, "elsewhere"), { mode: 0o700 });
    symlinkSync(path.join(folder, "elsewhere"), path.dirname(file()));
    assert.throws(() => read(), isConfigError(/it is no folder/));
  });

  test("is no folder and no pipe", async () => {
    mkdirSync(file(), { recursive: true, mode: 0o700 });
    assert.throws(() => read(), isConfigError(/it is no file/));
    await rm(file(), { recursive: true });
    await promisify(execFile)("mkfifo", ["-m", "600", file()]);
    assert.throws(() => read(), isConfigError(/it is no file/));
  });

  test("is this user's own", {
    skip: process.geteuid?.() === 0 ? false : "only root can make a file of another user",
  }, async () => {
    prepare(key);
    await promisify(execFile)("chown", ["12345", file()]);
    assert.throws(() => read(), isConfigError(/belongs to user 12345, not to 0/));
  });
});

function isConfigError(message: RegExp): (error: unknown) => boolean {
  return (error) => ShardspeedError.isInstance(error) && error.code === "ERR_CONFIG" && message.test(error.message);
}
