import assert from "node:assert/strict";
import { copyFile, cp, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { ShardspeedError } from "../../dist/base/errors.js";
import { loadNative, nativePath } from "../../dist/native/load.js";
import { makeTemporaryFolder, root, runProgram } from "./programs.js";

const loader = path.join(root, "dist/native/load.js");
const printFailure = `
  const { loadNative } = await import(process.argv[1]);
  try { loadNative(); } catch (error) { console.log(error.code, error.message); }`;

describe("loadNative", () => {
  let temporary: Awaited<ReturnType<typeof makeTemporaryFolder>>;
  const addon = path.join(root, "build/Release/shardspeed.node");

  before(async () => {
    temporary = await makeTemporaryFolder();
  });
  after(() => temporary?.remove());

  /** The message of the ERR_NATIVE that loading a file with these bytes gives. */
  async function failureOf(name: string, bytes: string | undefined): Promise<string> {
    const file = path.join(temporary.folder, name);
    if (bytes !== undefined) await writeFile(file, bytes);
    try {
      loadNative(file);
    } catch (error) {
      assert.ok(ShardspeedError.isInstance(error));
      assert.equal(error.code, "ERR_NATIVE");
      assert.ok(error.message.includes(file), error.message);
      assert.match(
        error.message,
        new RegExp(`System: ${process.platform} ${process.arch}.* Node ${process.versions.node}`),
      );
      return error.message;
    }
    assert.fail(`${file} was loaded`);
  }

  test("finds the addon of the checkout, once", () => {
    assert.equal(nativePath(), addon);
    assert.equal(loadNative(), loadNative());
    assert.equal(typeof loadNative().createEngine, "function");
  });

  test("loads the file it is given", async () => {
    const copy = path.join(temporary.folder, "copy.node");
    await copyFile(addon, copy);
    assert.equal(typeof loadNative(copy).createEngine, "function");
  });

  test("says that there is no file", async () => {
    assert.match(await failureOf("absent.node", undefined), /There is no such file/);
  });

  test("says that a file is cut short", async () => {
    assert.match(await failureOf("empty.node", ""), /The file is cut short/);
  });

  test("says that a file is for another platform, or damaged", async () => {
    assert.match(await failureOf("mach.node", "\xcf\xfa\xed\xfe".repeat(1000)), /built for another platform/);
  });

  test("says that a path from the environment is the only one tried", async () => {
    const args = ["--input-type=module", "--eval", printFailure, loader];
    const { stdout } = await runProgram(process.execPath, args, temporary.folder, {
      SHARDSPEED_BINDING: "nowhere.node",
    });
    assert.match(stdout, /^ERR_NATIVE /);
    assert.match(stdout, /SHARDSPEED_BINDING is set and names the only file that is tried/);
  });

  test("says that addons are switched off", async () => {
    const args = ["--no-addons", "--input-type=module", "--eval", printFailure, loader];
    const { stdout } = await runProgram(process.execPath, args, temporary.folder);
    assert.match(stdout, /^ERR_NATIVE /);
    assert.match(stdout, /Start Node without --no-addons/);
  });

  // What bundlers make of the modules: a file somewhere else, without a URL where it is CommonJS.
  for (const [kind, url] of [
    ["an ECMAScript bundle", "import.meta.url"],
    ["a CommonJS bundle", "undefined"],
  ] as const) {
    test(`says in ${kind} that the package is to be kept external`, async () => {
      const bundle = path.join(temporary.folder, `bundle of ${url}`);
      await cp(path.join(root, "dist"), path.join(bundle, "dist"), { recursive: true });
      await symlink(path.join(root, "node_modules"), path.join(bundle, "node_modules"));
      for (const name of await readdir(path.join(bundle, "dist"), { recursive: true })) {
        if (!name.endsWith(".js") || name.startsWith("cli")) continue;
        const file = path.join(bundle, "dist", name);
        await writeFile(file, (await readFile(file, "utf8")).replaceAll("import.meta.url", url));
      }
      await writeFile(path.join(bundle, "package.json"), `{ "name": "service", "type": "module" }`);
      const program = `
        const { initInference } = await import(process.argv[1]);
        await initInference(process.argv[2]).catch((error) => console.log(error.code, error.message));`;
      const args = ["--input-type=module", "--eval", program, path.join(bundle, "dist/index.js")];
      const { stdout, stderr } = await runProgram(process.execPath, [...args, path.join(root, "models/demo")], bundle);
      assert.match(stdout, /^ERR_NATIVE shardspeed has been bundled .*Keep it external/, stderr);
    });
  }
});
