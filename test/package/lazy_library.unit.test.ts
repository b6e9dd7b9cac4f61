import assert from "node:assert/strict";
import path from "node:path";
import { describe, test } from "node:test";
import { makeTemporaryFolder, root, runProgram } from "./programs.js";

const archive = path.join(root, "test/fixtures/torchserve/archives/echo.mar");

/** What first calls for a library. */
const uses: Record<string, string> = {
  yaml: 'shardspeed.parseModelConfigYaml("minWorkers: 1")',
  yauzl: `await shardspeed.openArchive(${JSON.stringify(archive)}).catch(() => {})`,
};

describe("the package loads a library when it is first called for, not before", () => {
  for (const [library, use] of Object.entries(uses)) {
    test(library, async () => {
      const { folder, remove } = await makeTemporaryFolder();
      const program = `
        import { Session } from "node:inspector";
        import * as shardspeed from ${JSON.stringify(path.join(root, "dist/index.js"))};
        function loaded() {
          const session = new Session();
          const scripts = [];
          session.connect();
          session.on("Debugger.scriptParsed", ({ params }) => scripts.push(params.url));
          session.post("Debugger.enable");
          session.disconnect();
          return ["dist/index.js", "/node_modules/${library}/"].map((part) => scripts.some((url) => url.includes(part)));
        }
        const before = loaded();
        ${use};
        console.log(JSON.stringify([before, loaded()]));`;
      try {
        const { status, stdout, stderr } = await runProgram(
          process.execPath,
          ["--input-type=module", "--eval", program],
          folder,
        );
        assert.equal(status, 0, stderr);
        assert.deepEqual(JSON.parse(stdout), [
          [true, false],
          [true, true],
        ]);
      } finally {
        await remove();
      }
    });
  }
});
