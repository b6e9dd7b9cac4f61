import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { loadNative } from "../../dist/native/load.js";

// The choice is made from the environment once a process, so every kernel set has a process of its own, which runs the golden tests.

const goldenTests = fileURLToPath(new URL("./golden.test.js", import.meta.url));
const { available } = loadNative().cpuFeatures();

function run(kernels: string) {
  const env: NodeJS.ProcessEnv = { ...process.env, SHARDSPEED_CPU: kernels };
  delete env.NODE_TEST_CONTEXT; // or the child would report to this test's runner
  return spawnSync(process.execPath, ["--test-reporter=tap", goldenTests], {
    env,
    encoding: "utf8",
    maxBuffer: 1 << 26,
  });
}

for (const kernels of ["portable", "avx2", "avx512"]) {
  const skip = available.includes(kernels) ? false : `this processor runs ${available.join(", ")} only`;
  test(`goldens with the ${kernels} kernels`, { skip }, (t) => {
    const { status, stdout } = run(kernels);
    t.diagnostic(/# pass \d+/.exec(stdout)?.[0] ?? "no summary");
    assert.equal(
      status,
      0,
      stdout
        .split("\n")
        .filter((line) => /not ok|error:/.test(line))
        .join("\n"),
    );
    assert.match(stdout, /# pass [1-9]\d/);
    assert.match(stdout, /# fail 0/);
  });
}

test("a kernel set that does not exist is named with those that do", () => {
  const env = { ...process.env, SHARDSPEED_CPU: "mmx" };
  const script = `import { loadNative } from ${JSON.stringify(new URL("../../dist/native/load.js", import.meta.url).href)};
    try { loadNative().cpuFeatures(); } catch (error) { console.log(error.name, error.code, error.message); }`;
  const { stdout } = spawnSync(process.execPath, ["--input-type=module", "-e", script], { env, encoding: "utf8" });
  assert.match(stdout, /^ShardspeedError ERR_INVALID_ARGUMENT Found SHARDSPEED_CPU=mmx, expected .*portable/);
});
