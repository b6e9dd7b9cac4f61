import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { describe, test } from "node:test";
import { demo, root, run, start } from "./command.js";

test("help and version", async () => {
  const help = await run(["--help"]);
  assert.equal(help.status, 0);
  assert.match(
    help.stdout,
    /generate.*inspect.*doctor.*Exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted/s,
  );
  const { version } = JSON.parse(await readFile(path.join(root, "package.json"), "utf8"));
  assert.equal((await run(["--version"])).stdout, `${version}\n`);
});

for (const command of ["generate", "archive", "checkpoints", "inspect", "doctor"]) {
  test(`docs/cli.md lists the options of ${command}, all of them and no others`, async () => {
    const help = await run([command, "--help"]);
    assert.equal(help.status, 0);
    assert.match(help.stdout, /Exit codes: /);
    const options = [...help.stdout.matchAll(/^ {2}(?:-\w, )?(--[\w-]+)/gm)].map((match) => match[1]!);
    const docs = await readFile(path.join(root, "docs/cli.md"), "utf8");
    const section = docs.split(/^## /m).find((part) => part.startsWith(command))!;
    const documented = [...section.matchAll(/^\| `(?:-\w, )?(--[\w-]+)`/gm)].map((match) => match[1]!);
    assert.deepEqual(documented.sort(), options.filter((option) => option !== "--help").sort());
  });
}

describe("wrong usage ends with 2 and one line that says what is wrong", () => {
  const wrong: [string[], RegExp][] = [
    [[], /Usage:/],
    [["bogus"], /unknown command 'bogus'/],
    [["generate"], /missing required argument 'model'/],
    [["inspect"], /missing required argument 'model'/],
    [["generate", demo, "-p", "x", "--temprature", "1"], /unknown option '--temprature'.*--temperature/s],
    [["generate", demo, "-p", "x", "--top-k", "many"], /--top-k.*many.*Expected an integer/],
    [["generate", demo, "-p", "x", "--top-k", "-1"], /--top-k.*-1/],
    [["generate", demo, "-p", "x", "--top-p", "1e"], /--top-p/],
    [["generate", demo, "-p", "x", "--top-p", "2"], /--top-p.*found 2/],
    [["generate", demo, "-p", "x", "-n", "0"], /--max-new-tokens/],
    [["generate", demo, "-p", "x", "--seed", "-5"], /--seed/],
    [["generate", demo, "-p", "x", "--seed", "18446744073709551616"], /--seed/],
    [["generate", demo, "-p", "x", "--stop", ""], /--stop/],
    [["generate", demo, "-p", "x", "--num-beams", "4", "-t", "1"], /Found --num-beams 4 and temperature 1/],
    [["generate", demo, "-p", "x", "--early-stopping", "soon"], /--early-stopping/],
    [["generate", demo, "-p", "x", "--n", "129"], /--n/],
    [["generate", demo, "-p", "x", "--kv-cache-bytes", "lots"], /--kv-cache-bytes/],
    [["generate", demo, "-p", "x", "--logprobs"], /--logprobs is for --json and --json-lines/],
    [["generate", demo, "-p", "x", "--prompt-logprobs", "2"], /--prompt-logprobs is for --json and --json-lines/],
    [["generate", demo, "-p", "x", "--prompt-ids", "1"], /one of --prompt, --prompt-file and --prompt-ids/],
    [["generate", demo, "--prompt-ids", "1,x"], /--prompt-ids/],
    [["generate", demo, "--prompt-ids", "1", "--chat"], /--chat/],
    [["generate", demo, "--prompt-ids", "1", "--system", "y"], /--chat/],
    [
      // Before the model, whose loading may take long.
      ["generate", "/nowhere/model", "-p", "x", "--chat-template", "/nowhere/t.jinja"],
      /Cannot read the chat template.*\/nowhere\/t\.jinja/,
    ],
    [["generate", demo, "-p", "x", "--dtype", "fp12"], /--dtype.*fp12.*fp32, fp16, bf16/],
    [["generate", demo, "--prompt-file", "-"], /The standard input is empty, expected a prompt/],
    [["generate", demo, "--prompt-file", "/nowhere/prompt.txt"], /Cannot read the prompt.*\/nowhere\/prompt\.txt/],
    [
      ["generate", demo, "-p", "x", "--device", "gpu"],
      /Expected --device to be "auto", "cpu", "cuda" or "cuda:" and a number/,
    ],
    [["generate", demo, "--device", "cuda:"], /--device/],
    [["generate", demo, "-p", "x", "--threads", "0"], /--threads/],
    [["generate", demo, "-p", "x", "--speculative-config", "ngram"], /--speculative-config.*a JSON object/],
    [["generate", demo, "-p", "x", "--speculative-config", '{"method": "draft"}'], /--speculative-config.*model/],
  ];
  for (const [args, message] of wrong) {
    test(args.slice(2).join(" ") || args.join(" ") || "nothing", async () => {
      const { status, stdout, stderr } = await run(args);
      assert.equal(status, 2, stderr);
      assert.equal(stdout, "");
      assert.match(stderr, message);
      assert.doesNotMatch(stderr, /^\s+at /m);
    });
  }

  test("with --json, on the standard output", async () => {
    for (const args of [["--bogus"], ["--top-k", "-1"]]) {
      const { status, stdout } = await run(["generate", demo, "-p", "x", "--json", ...args]);
      assert.equal(status, 2);
      const { error } = JSON.parse(stdout);
      assert.equal(error.code, "ERR_INVALID_ARGUMENT");
      assert.match(error.message, /bogus|--top-k/);
    }
  });
});

describe("work that fails ends with 1", () => {
  for (const command of ["generate", "inspect"]) {
    const prompt = command === "generate" ? ["-p", "x"] : [];
    test(`${command}: no such folder`, async () => {
      const plain = await run([command, "/nowhere/model", ...prompt]);
      assert.equal(plain.status, 1);
      assert.equal(plain.stdout, "");
      assert.match(plain.stderr, /^shardspeed: .*\/nowhere\/model.*no such folder.*\(ERR_CHECKPOINT\)\n$/);
      const json = await run([command, "/nowhere/model", ...prompt, "--json"]);
      assert.equal(json.status, 1);
      const { error } = JSON.parse(json.stdout);
      assert.equal(error.code, "ERR_CHECKPOINT");
      assert.match(error.message, /\/nowhere\/model/);
    });
  }

  test("generate: a CUDA device, and a config that is none", async () => {
    const cuda = await run(["generate", demo, "-p", "x", "--device", "cuda:4096"]);
    assert.equal(cuda.status, 1);
    assert.match(cuda.stderr, /Found --device "cuda:4096", which cannot be used: .*\(ERR_CUDA\)/);
    const config = await run(["generate", demo, "-p", "x", "--config", path.join(root, "README.md")]);
    assert.equal(config.status, 1);
    assert.match(config.stderr, /README\.md is not JSON: line 1, column 1.*\(ERR_CONFIG\)/);
  });
});

test("Ctrl-C while the prompt is awaited: 130, and nothing else", async () => {
  for (const [signal, status] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const) {
    const { child, ended } = start(["generate", demo, "--verbose"]);
    await once(child.stderr, "data");
    child.kill(signal);
    const stderr = "shardspeed: Reading the prompt from the standard input\n";
    assert.deepEqual(await ended, { status, signal: null, stdout: "", stderr });
  }
});
