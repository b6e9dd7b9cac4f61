import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { completionChunk, event, startFakeServer, streamWords } from "../bench/fake_server.js";
import { run, start } from "./command.js";

describe("shardspeed bench serve", () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "shardspeed-"));
  });
  after(() => rm(folder, { recursive: true }));
  const flags = (url: string) => ["bench", "serve", "--base-url", url, "--random-input-len", "4", "--num-prompts", "5"];

  test("prints the table and saves the result", async () => {
    await using server = await startFakeServer();
    const keyFile = path.join(folder, "key");
    await writeFile(keyFile, "secret\nother\n");
    const saved = ["--save-detailed", "--result-dir", path.join(folder, "results"), "--request-rate", "inf"];
    const more = ["--api-key-file", keyFile, "--goodput", "ttft:60000", "e2el:60000", "--percentile-metrics", "e2el"];
    const { status, stdout, stderr } = await run([...flags(server.url), ...saved, ...more]);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^=+ Serving Benchmark Result =+\nSuccessful requests: {21}5 /);
    assert.match(stdout, /^Mean E2EL \(ms\):/m);
    assert.doesNotMatch(stdout, /TTFT/);
    assert.ok(server.keys.length > 0 && server.keys.every((key) => key === "Bearer secret"));
    const [file = ""] = await readdir(path.join(folder, "results"));
    assert.match(file, /^openai-infqps-model-\d{8}-\d{6}\.json$/);
    const result = JSON.parse(await readFile(path.join(folder, "results", file), "utf8"));
    assert.deepEqual([result.completed, result.generated_texts.length, result.input_lens.length], [5, 5, 5]);
  });

  test("--json prints one document", async () => {
    await using server = await startFakeServer();
    const { status, stdout } = await run([...flags(server.url), "--json", "--backend", "openai-chat"], "", {
      OPENAI_API_KEY: "from the environment",
    });
    assert.equal(status, 0);
    const result = JSON.parse(stdout);
    assert.deepEqual([result.backend, result.completed, result.ttfts], ["openai-chat", 5, undefined]);
    assert.equal(server.keys[0], "Bearer from the environment");
  });

  test("SIGINT ends the run and prints what there is", async () => {
    let asked = 0;
    let signal = () => {};
    const signalled = new Promise<void>((resolve) => {
      signal = resolve;
    });
    await using server = await startFakeServer({
      answer(response, body, index) {
        asked += 1;
        if (asked === 6) signal(); // the test request and five others
        if (index < 3) return streamWords(["a"])(response, body, index);
        response.writeHead(200, { "content-type": "text/event-stream" });
        response.write(event(completionChunk("a")));
      },
    });
    // The last is sent when two have ended.
    const { child, ended } = start([...flags(server.url), "--max-concurrency", "3"]);
    await signalled;
    child.kill("SIGINT");
    const { status, stdout } = await ended;
    assert.equal(status, 130);
    assert.match(stdout, /^Successful requests: +2 /m);
    assert.match(stdout, /^Interrupted; requests not finished: +3 /m);
    assert.match(stdout, /=\n$/);
  });

  test("says what is wrong: flags, keys, no server", async () => {
    const outcomes = await Promise.all([
      run(["bench", "serve", "--request-rate", "fast"]),
      run(["bench", "serve", "--num-prompts", "0"]),
      run(["bench", "serve", "--api-key", "a", "--api-key-file", "b"]),
      run(["bench", "serve", "--api-key-file", path.join(folder, "none")]),
      run(["bench", "serve", "--port", "9", "--ready-check-timeout-s", "0", "--json"]),
    ]);
    assert.deepEqual(
      outcomes.map(({ status }) => status),
      [2, 2, 2, 2, 1],
    );
    assert.match(outcomes[0]?.stderr ?? "", /Expected a number, or inf/);
    assert.match(outcomes[3]?.stderr ?? "", /There is no file .*none/);
    assert.equal(JSON.parse(outcomes[4]?.stdout ?? "").error.code, "ERR_BENCH");
  });
});
