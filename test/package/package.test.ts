import assert from "node:assert/strict";
import { readdir, readFile, rename, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { makeTemporaryFolder, root, runProgram } from "./programs.js";
import { installTarball, packCheckout, type Tarball } from "./tarball.js";

const require = createRequire(import.meta.url);
const model = path.join(root, "models/demo");

const generate = `
async function main({ initInference }) {
  const engine = await initInference(process.argv[2], { config: { tensor_parallel: { tp_size: 1 } } });
  const { ids } = await engine.generate(process.argv[3], { maxNewTokens: 12 });
  await engine.dispose();
  const addons = process.report.getReport().sharedObjects.filter((file) => file.endsWith("shardspeed.node"));
  console.log(JSON.stringify({ ids, addons }));
}
`;

const esmConsumer = `
import { type GenerationOptions, initInference, ShardspeedError } from "shardspeed";

export async function main(): Promise<string> {
  const options: GenerationOptions = { maxNewTokens: 4, stop: ["\\n"] };
  await using engine = await initInference("model", { config: { tensor_parallel: { tp_size: 1 } } });
  for await (const chunk of engine.stream("a", options)) process.stdout.write(chunk.text);
  // @ts-expect-error A prompt is text or token ids.
  await engine.generate(new Date());
  const result = await engine.generate("a", options);
  // @ts-expect-error Results have no such field: types are not any.
  result.nothing;
  return result.text;
}

main().catch((error: unknown) => {
  if (ShardspeedError.isInstance(error) && error.code === "ERR_NATIVE") console.error(error.message);
});
`;

const commonJsConsumer = `
import shardspeed = require("shardspeed");

export async function main(): Promise<number[]> {
  const engine = await shardspeed.initInference("model");
  const results = await engine.generate(["a", "b"], { temperature: 1, seed: 1 });
  // @ts-expect-error An array of prompts gives an array of results.
  results.text;
  return results.flatMap((result) => result.ids);
}
`;

async function goldenCase(): Promise<{ prompt: string; ids: number[] }> {
  const [first] = JSON.parse(await readFile(path.join(model, "golden.json"), "utf8"));
  return { prompt: first.prompt, ids: first.greedy.slice(0, 12) };
}

describe("the tarball", () => {
  let temporary: Awaited<ReturnType<typeof makeTemporaryFolder>>;
  let tarball: Tarball;
  let project: string;

  before(async () => {
    temporary = await makeTemporaryFolder();
    tarball = await packCheckout(temporary.folder);
    project = await installTarball(tarball, temporary.folder);
  });
  after(() => temporary?.remove());

  test("is no larger than 20 MB", () => {
    assert.ok(tarball.bytes <= 20e6, `${tarball.bytes} bytes`);
  });

  test("holds what is needed to run and to build, and nothing else", async () => {
    const packed = new Set(tarball.files);
    const wanted = [
      "README.md",
      "LICENSE",
      "CHANGELOG.md",
      "CMakeLists.txt",
      "dist/index.js",
      "dist/index.d.ts",
      "dist/cli/main.js",
      ...["page.html", "page.css", "icon.svg", "browser/main.js"].map((name) => `dist/serving/page/${name}`),
    ];
    for (const folder of ["src", "binding"]) {
      const names = await readdir(path.join(root, folder), { recursive: true, withFileTypes: true });
      for (const entry of names) {
        if (entry.isFile()) wanted.push(path.relative(root, path.join(entry.parentPath, entry.name)));
      }
    }
    assert.deepEqual(
      wanted.filter((file) => !packed.has(file)),
      [],
    );
    const allowed =
      /^(dist|prebuilds|src|binding|cuda|deploy|examples)\/|^docs\/[^/]+\.md$|^(bench|models\/demo|lib\/models)\/README\.md$|^(package\.json|README\.md|LICENSE|CHANGELOG\.md|CONTRIBUTING\.md|CMakeLists\.txt)$/;
    assert.deepEqual(
      tarball.files.filter((file) => !allowed.test(file) || file.endsWith(".tsbuildinfo")),
      [],
    );
  });

  test("holds every file that its pages link to", async () => {
    const packed = new Set(tarball.files);
    const folders = new Set(tarball.files.flatMap((file) => [path.dirname(file), path.dirname(path.dirname(file))]));
    const dangling: string[] = [];
    for (const page of tarball.files.filter((file) => file.endsWith(".md"))) {
      const text = await readFile(path.join(project, "node_modules/shardspeed", page), "utf8");
      for (const [, target = ""] of text.matchAll(/\]\(([^)\s#]+)[^)\s]*\)/g)) {
        const linked = path.normalize(path.join(path.dirname(page), target));
        const isThere = packed.has(linked) || folders.has(linked) || /^[a-z]+:/.test(target);
        if (!isThere) dangling.push(`${page}: ${target}`);
      }
    }
    assert.deepEqual(dangling, []);
  });

  test("has no script that npm would run on installation", async () => {
    const { scripts } = JSON.parse(await readFile(path.join(project, "node_modules/shardspeed/package.json"), "utf8"));
    const hooks = ["preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare", "postprepare"];
    assert.deepEqual(
      hooks.filter((hook) => hook in scripts),
      [],
    );
    // npm also runs node-gyp where it finds this file.
    assert.ok(!tarball.files.includes("binding.gyp"));
  });

  for (const [kind, file, call] of [
    ["an ECMAScript module", "main.mjs", `import * as shardspeed from "shardspeed";\nawait main(shardspeed);\n`],
    ["a CommonJS module", "main.cjs", `main(require("shardspeed"));\n`],
  ] as const) {
    test(`generates from ${kind}`, async () => {
      const { prompt, ids } = await goldenCase();
      await writeFile(path.join(project, file), generate + call);
      const outcome = await runProgram(process.execPath, [file, model, prompt], project);
      assert.equal(outcome.status, 0, outcome.stderr);
      const result = JSON.parse(outcome.stdout);
      assert.deepEqual(result.ids, ids);
      const prebuild = path.join(
        "node_modules/shardspeed/prebuilds",
        `${process.platform}-${process.arch}`,
        "shardspeed.node",
      );
      assert.deepEqual(
        result.addons.map((addon: string) => path.relative(project, addon)),
        [prebuild],
      );
    });
  }

  test("installs the command", async () => {
    const command = path.join(project, "node_modules/.bin/shardspeed");
    const { prompt, ids } = await goldenCase();
    const args = ["generate", model, "--prompt", prompt, "--max-new-tokens", "12", "--json"];
    const outcome = await runProgram(command, args, project);
    assert.equal(outcome.status, 0, outcome.stderr);
    assert.deepEqual(JSON.parse(outcome.stdout).ids, ids);
  });

  test("has types that a strict project compiles with, library files checked", async () => {
    await writeFile(path.join(project, "consumer.mts"), esmConsumer);
    await writeFile(path.join(project, "consumer.cts"), commonJsConsumer);
    const compilerOptions = {
      target: "es2023",
      lib: ["es2023", "esnext.disposable"],
      module: "nodenext",
      strict: true,
      exactOptionalPropertyTypes: true,
      skipLibCheck: false,
      noEmit: true,
      types: ["node"],
      typeRoots: [path.join(root, "node_modules/@types")],
    };
    const config = { compilerOptions, files: ["consumer.mts", "consumer.cts"] };
    await writeFile(path.join(project, "tsconfig.json"), JSON.stringify(config));
    const outcome = await runProgram(process.execPath, [require.resolve("typescript/bin/tsc"), "-p", project], project);
    assert.equal(outcome.status, 0, outcome.stdout);
  });

  test("holds sources that CMake can configure", async () => {
    const cmakeJs = require.resolve("cmake-js/bin/cmake-js");
    const sources = path.join(project, "node_modules/shardspeed");
    const args = [cmakeJs, "configure", "--directory", sources, "--out", path.join(temporary.folder, "build")];
    const outcome = await runProgram(process.execPath, args, project);
    assert.equal(outcome.status, 0, outcome.stdout + outcome.stderr);
  });

  test("without an addon says where it looked and how to build one", async () => {
    const prebuilds = path.join(project, "node_modules/shardspeed/prebuilds");
    const aside = path.join(temporary.folder, "prebuilds");
    await rename(prebuilds, aside);
    try {
      const script = `require("shardspeed").initInference(process.argv[1]).catch((e) => console.log(e.code, e.message));`;
      const { stdout } = await runProgram(process.execPath, ["--eval", script, model], project);
      assert.match(stdout, /^ERR_NATIVE /);
      assert.ok(stdout.includes(path.join(prebuilds, `${process.platform}-${process.arch}`)), stdout);
      const command =
        /npm install --prefix (\S+) cmake-js@8 node-addon-api@8 && NODE_PATH=\S+ \S+ build --directory (\S+)/;
      const [, tools = "", sources] = command.exec(stdout) ?? [];
      assert.equal(sources, path.join(project, "node_modules/shardspeed"));
      // pnpm's and Yarn's node_modules do not survive npm install in their project.
      assert.ok(path.relative(project, tools).startsWith(".."), tools);
    } finally {
      await rename(aside, prebuilds);
    }
  });
});
