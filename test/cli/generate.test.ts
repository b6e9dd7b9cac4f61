import assert from "node:assert/strict";
import { once } from "node:events";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { demo, run, start } from "./command.js";

interface GoldenRow {
  prompt: string;
  ids: number[];
  greedy: number[];
  text: string;
}

const golden: GoldenRow[] = JSON.parse(await readFile(path.join(demo, "golden.json"), "utf8"));
const row = golden[0]!;
const statistics =
  /^\[\d+ new tokens in [\d.]+ s, [\d.]+ tokens\/s, first after \d+ ms, loaded in [\d.]+ s, (stopped|length reached)\]\n$/;

describe("text on the standard output, statistics on the standard error", () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "shardspeed-cli-"));
  });
  after(() => rm(folder, { recursive: true }));

  const length = ["--max-new-tokens", String(row.greedy.length)];

  test("the prompt as an option, from a file, from the standard input, as ids", async () => {
    const file = path.join(folder, "prompt.txt");
    await writeFile(file, `${row.prompt}\n`);
    for (const [args, input] of [
      [["--prompt", row.prompt], ""],
      [["--prompt-file", file], ""],
      [["--prompt-file", "-"], `${row.prompt}\n`],
      [[], row.prompt],
      [[], `\uFEFF${row.prompt}\r\n`],
      [["--prompt-ids", row.ids.join(",")], ""],
    ] as [string[], string][]) {
      const { status, stdout, stderr } = await run(["generate", demo, ...args, ...length], input);
      assert.equal(status, 0, stderr);
      assert.equal(stdout, `${row.text}\n`);
      assert.match(stderr, statistics);
    }
  });

  test("--quiet", async () => {
    const { status, stdout, stderr } = await run(["generate", demo, "-p", row.prompt, ...length, "--quiet"]);
    assert.deepEqual({ status, stdout, stderr }, { status: 0, stdout: `${row.text}\n`, stderr: "" });
  });

  test("--json-lines: one document for each piece of text", async () => {
    const { status, stdout, stderr } = await run(["generate", demo, "-p", row.prompt, ...length, "--json-lines"]);
    assert.equal(status, 0, stderr);
    const chunks: { text: string; ids: number[]; finishReason?: string }[] = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    assert.equal(chunks.map(({ text }) => text).join(""), row.text);
    assert.deepEqual(
      chunks.flatMap(({ ids }) => ids),
      row.greedy,
    );
    assert.equal(chunks.at(-1)?.finishReason, "length");
  });

  test("--chat-template, and --system, which is for a chat as well", async () => {
    const template = path.join(folder, "template.jinja");
    await writeFile(template, "\uFEFF{% for m in messages %}{{ m.content }}{% endfor %}");
    const args = ["--chat-template", template, "--prompt", row.prompt.slice(4), "--system", row.prompt.slice(0, 4)];
    const { stdout, stderr } = await run(["generate", demo, ...args, ...length]);
    assert.equal(stdout, `${row.text}\n`, stderr);
  });

  test("--tp-size and --dtype beside a config that says the same or nothing, and one that says otherwise", async () => {
    const config = path.join(folder, "ds.json");
    await writeFile(config, '{ "mp_size": 2, "dtype": "float32" }');
    const empty = path.join(folder, "empty.json");
    await writeFile(empty, '{ "tensor_parallel": { "enabled": true } }');
    const generate = (...args: string[]) => run(["generate", demo, "-p", row.prompt, ...length, ...args]);
    for (const file of [config, empty]) {
      const { stdout, stderr } = await generate("--config", file, "--tp-size", "2", "--dtype", "fp32");
      assert.equal(stdout, `${row.text}\n`, stderr);
    }
    const ranks = await generate("--config", config, "--tp-size", "1");
    assert.equal(ranks.status, 1);
    assert.match(ranks.stderr, /Found --tp-size 1 in the options and tensor_parallel\.tp_size 2 in .*ds\.json: remove/);
    const dtype = await generate("--config", config, "--dtype", "bf16");
    assert.equal(dtype.status, 1);
    assert.match(dtype.stderr, /Found --dtype "bf16" in the options and dtype "float32" in .*ds\.json: remove/);
    const many = await generate("--tp-size", "9");
    assert.match(many.stderr, /Found --tp-size 9, but this opt model has 8 attention heads/);
    const none = await generate("--tp-size", "0");
    assert.match(none.stderr, /Expected --tp-size to be an integer from 1 to 64, found 0/);
    const cache = await generate("--kv-cache-bytes", "10");
    assert.match(cache.stderr, /Found --kv-cache-bytes 10, which/);
  });

  test("warnings name flags too", async () => {
    const model = path.join(folder, "sampled");
    await cp(demo, model, { recursive: true });
    await writeFile(path.join(model, "generation_config.json"), '{ "do_sample": true, "temperature": 0.5 }');
    const { stderr } = await run(["generate", model, "-p", row.prompt, "-n", "1"]);
    assert.match(stderr, /warning: .*do_sample true, temperature 0\.5.*pass --generation-defaults model to take it/);
    const quiet = await run(["generate", model, "-p", row.prompt, "-n", "1", "--generation-defaults", "model"]);
    assert.doesNotMatch(quiet.stderr, /warning/);
  });

  test("--json: one document, and nothing on the standard error", async () => {
    const { status, stdout, stderr } = await run(["generate", demo, "-p", row.prompt, ...length, "--json"]);
    assert.equal(status, 0, stderr);
    assert.equal(stderr, "");
    const { timings, ...document } = JSON.parse(stdout);
    assert.deepEqual(document, {
      text: row.text,
      ids: row.greedy,
      finishReason: "length",
      usage: { promptTokens: row.ids.length, newTokens: row.greedy.length, cachedTokens: 0 },
    });
    for (const name of ["firstTokenMs", "totalMs", "tokensPerSecond"]) assert.ok(timings[name] > 0, name);
  });

  test("--n and --num-beams write a line for each text", async () => {
    const flags = ["generate", demo, "-p", row.prompt, "-n", "5", "-q"];
    const samples = await run([...flags, "--n", "3", "-t", "1", "-s", "4"]);
    const result = JSON.parse((await run([...flags, "--n", "3", "-t", "1", "-s", "4", "--json"])).stdout);
    assert.equal(samples.stdout, result.choices.map(({ text }: { text: string }) => `${text}\n`).join(""));
    assert.equal(new Set(result.choices.map(({ ids }: { ids: number[] }) => ids.join())).size, 3);
    const beams = ["--num-beams", "3", "--length-penalty", "0.5", "--early-stopping", "never"];
    const searched = await run([...flags, ...beams, "--json"]);
    assert.equal(searched.status, 0, searched.stderr + searched.stdout);
    const { text, score } = JSON.parse(searched.stdout);
    assert.equal((await run([...flags, ...beams])).stdout, `${text}\n`);
    assert.ok(score < 0);
    const { status, stdout } = await run([...flags, ...beams, "--json-lines"]);
    assert.equal(status, 2);
    assert.match(JSON.parse(stdout).error.message, /for a stream/);
  });

  test("--prompt-logprobs, also without new tokens", async () => {
    const { stdout } = await run([
      ...["generate", demo, "-p", row.prompt, "-n", "0", "--json", "--prompt-logprobs", "2"],
    ]);
    const { ids, text, finishReason, promptLogprobs } = JSON.parse(stdout);
    assert.deepEqual([ids, text, finishReason], [[], "", "length"]);
    assert.equal(promptLogprobs[0], null);
    assert.deepEqual(
      promptLogprobs.slice(1).map(({ id }: { id: number }) => id),
      row.ids.slice(1),
    );
    for (const { logprob, rank, top } of promptLogprobs.slice(1)) {
      assert.ok(logprob <= 0 && rank >= 1);
      assert.equal(top.length, 2);
    }
  });

  test("--logprobs", async () => {
    const { stdout } = await run(["generate", demo, "-p", row.prompt, "-n", "3", "--json", "--logprobs", "2"]);
    const { ids, logprobs } = JSON.parse(stdout);
    assert.deepEqual(
      logprobs.map(({ id }: { id: number }) => id),
      ids,
    );
    for (const { logprob, top } of logprobs) {
      assert.ok(logprob < 0);
      assert.equal(top.length, 2);
    }
  });

  test("--stop ends the text before it", async () => {
    const words = row.text.trim().split(" ");
    const stop = words[5]!;
    const { stdout, stderr } = await run([
      "generate",
      demo,
      "-p",
      row.prompt,
      ...length,
      "--stop",
      "never",
      "--stop",
      stop,
    ]);
    assert.equal(stdout, `${row.text.slice(0, row.text.indexOf(stop))}\n`);
    assert.match(stderr, /stopped\]/);
  });

  test("the same seed gives the same text, and another seed another", async () => {
    const sample = async (seed: string) =>
      (await run(["generate", demo, "-p", "The whale", "-n", "24", "-t", "1", "--seed", seed, "--quiet"])).stdout;
    const first = await sample("18446744073709551615");
    assert.equal(await sample("18446744073709551615"), first);
    assert.notEqual(await sample("1"), first);
  });

  test("--config is followed", async () => {
    const file = path.join(folder, "ds-config.json");
    await writeFile(
      file,
      JSON.stringify({ dtype: "fp32", tensor_parallel: { tp_size: 1 }, max_out_tokens: 12, use_triton: true }),
    );
    const { status, stdout, stderr } = await run(["generate", demo, "-p", row.prompt, "--json", "--config", file]);
    assert.equal(status, 0, stderr);
    const { usage } = JSON.parse(stdout);
    assert.equal(usage.promptTokens + usage.newTokens, 12);
    assert.match(stderr, /^shardspeed: warning: .*ds-config\.json: no effect here: use_triton \(.*\)\n$/);
  });

  test("a prompt that is too long for the model is an error of its own", async () => {
    const { status, stderr } = await run(["generate", demo, "-p", "whale ".repeat(600)]);
    assert.equal(status, 1);
    assert.match(stderr, /\(ERR_CONTEXT_LENGTH\)/);
  });

  test("--chat without a template says so", async () => {
    const { status, stderr } = await run(["generate", demo, "-p", "x", "--chat"]);
    assert.equal(status, 1);
    assert.match(stderr, /no chat template.*\(ERR_TOKENIZER\)/);
  });
});

describe("ends before the end", () => {
  const long = ["generate", demo, "-p", "The whale", "-n", "500", "--ignore-eos", "--threads", "1"];

  test("a reader that has enough: no error, no stack", async () => {
    const { child, ended, wrote } = start(long);
    await wrote;
    child.stdout.destroy();
    const { status, stderr } = await ended;
    assert.equal(status, 0, stderr);
    assert.doesNotMatch(stderr, /EPIPE|Error/);
  });

  for (const [signal, status] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const) {
    test(`${signal} in the middle of the text: ${status}, no stack`, async () => {
      const { child, ended, wrote } = start(long);
      await wrote;
      child.kill(signal);
      const outcome = await ended;
      assert.equal(outcome.status, status, outcome.stderr);
      assert.equal(outcome.signal, null);
      assert.equal(outcome.stderr, "");
    });
  }

  test("interrupted with --json: the error as a document", async () => {
    const { child, ended } = start(["generate", demo, "--json", "--verbose"]);
    await once(child.stderr, "data");
    child.kill("SIGINT");
    const { status, stdout } = await ended;
    assert.equal(status, 130);
    assert.equal(JSON.parse(stdout).error.code, "ERR_ABORTED");
  });
});
