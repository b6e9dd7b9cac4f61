import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { root, runProgram } from "../package/programs.js";
import { type CodeBlock, codeBlocks, readPages } from "./documents.js";
import { makeInputs, makeProject, type Project } from "./project.js";

// Every TypeScript and JavaScript block of every page is compiled under strict, and run in a user's project.

const require = createRequire(import.meta.url);

/** What blocks write to stdout, by page and number, where that says whether they have worked. */
const outputs: Record<string, RegExp> = {
  "README.md 1": /^ to it\. It is a very small thing/,
  "docs/handlers.md 1": /^200 Prediction success Call me/,
  "docs/http.md 1": /^200 data: \[DONE\]$/m,
  "docs/launch.md 1": /\w/,
  "docs/sampling.md 2": /^true$/m,
  "docs/streaming.md 1": /^end: length/m,
  "docs/streaming.md 3": /the client has disconnected/,
};

interface Snippet extends CodeBlock {
  /** "README.md 1": the page, and which of its blocks this is. */
  name: string;
  /** Name of the module that it becomes, without extension. */
  module: string;
}

const snippets: Snippet[] = readPages().flatMap((page) =>
  codeBlocks(page)
    .filter(({ language }) => ["ts", "js", "mjs", "typescript", "javascript"].includes(language))
    .map((block, i) => ({
      ...block,
      name: `${page.file} ${i + 1}`,
      module: `${page.file.replace(/\.md$/, "").replaceAll(/\W/g, "_")}_line_${block.line}`,
    })),
);

describe("the code that the documents show", () => {
  let project: Project;
  let compilation: Awaited<ReturnType<typeof runProgram>>;

  before(async () => {
    project = await makeProject();
    await makeInputs(project);
    const sources = path.join(project.folder, "snippets");
    await mkdir(sources);
    for (const { module, code } of snippets) await writeFile(path.join(sources, `${module}.ts`), code);
    const compilerOptions = {
      ...{ target: "es2023", lib: ["es2023", "esnext.disposable"], module: "nodenext", types: ["node"] },
      ...{ strict: true, noUncheckedIndexedAccess: true, moduleDetection: "force", outDir: "../built" },
    };
    await writeFile(path.join(sources, "tsconfig.json"), JSON.stringify({ compilerOptions }));
    compilation = await runProgram(process.execPath, [require.resolve("typescript/bin/tsc"), "-p", sources], root);
  });
  after(() => project.remove());

  test("compiles under strict, each block by itself", () => {
    assert.equal(compilation.status, 0, compilation.stdout);
  });

  for (const { name, module, line } of snippets) {
    test(`${name} (line ${line}) runs`, async () => {
      const file = path.join(project.folder, "built", `${module}.js`);
      const outcome = await runProgram(process.execPath, [file], project.folder);
      assert.equal(outcome.status, 0, outcome.stderr);
      const expected = outputs[name];
      if (expected) assert.match(outcome.stdout, expected);
    });
  }

  test("the outputs are of blocks that are there", () => {
    const names = new Set(snippets.map(({ name }) => name));
    assert.deepEqual(
      Object.keys(outputs).filter((name) => !names.has(name)),
      [],
    );
  });
});
