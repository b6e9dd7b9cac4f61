import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { demo, run, start } from "./command.js";

const template =
  "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";

let folder: string;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "shardspeed-chat-"));
  await cp(demo, folder, { recursive: true });
  const settings = path.join(folder, "tokenizer_config.json");
  const json = JSON.parse(await readFile(settings, "utf8")) as Record<string, unknown>;
  await writeFile(settings, JSON.stringify({ ...json, chat_template: template }));
});
after(() => rm(folder, { recursive: true }));

/** What the model says behind a text. */
async function continuation(text: string, ...flags: string[]): Promise<string> {
  const { stdout, stderr } = await run(["generate", demo, "-q", "-p", text, ...flags]);
  assert.equal(stderr, "");
  return stdout;
}

const length = ["--max-new-tokens", "8"];

describe("a line of the standard input a turn", () => {
  test("answers have what was said before them", async () => {
    const first = await continuation("user: Call me\nassistant:", ...length);
    const second = await continuation(
      `user: Call me\nassistant: ${first.trimEnd()}\nuser: And then\nassistant:`,
      ...length,
    );
    const { status, stdout, stderr } = await run(["chat", folder, ...length], "Call me\n\nAnd then\n");
    assert.deepEqual([status, stdout, stderr], [0, first + second, ""]);
  });

  test("/reset, /system, //, /exit, /help and what is no command", async () => {
    const alone = await continuation("user: Call me\nassistant:", ...length);
    const told = await continuation("system: Be brief.\nuser: Call me\nassistant:", ...length);
    const slash = await continuation("system: Be brief.\nuser: /x\nassistant:", ...length);
    const lines = [
      "Call me",
      "/reset",
      "/system Be brief.",
      "Call me",
      "/reset",
      "//x",
      "/system",
      "/reset",
      "Call me",
    ];
    const { status, stdout, stderr } = await run(
      ["chat", folder, ...length],
      [...lines, "/nothing", "/help", "/exit", "never said"].join("\n"),
    );
    assert.equal(stdout, alone + told + slash + alone);
    assert.match(stderr, /^shardspeed: there is no command \/nothing\. \/help lists them\.\n\/reset /);
    assert.equal(status, 0);
    const flag = await run(["chat", folder, "--system", "Be brief.", ...length], "Call me\n");
    assert.equal(flag.stdout, told);
  });

  test("--json: a document for each answer, and for each turn that cannot be", async () => {
    const long = "whale ".repeat(1000);
    const { status, stdout, stderr } = await run(["chat", folder, ...length, "--json"], `Call me\n${long}\nCall me\n`);
    const [first, failed, second] = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    assert.equal(first.text, (await continuation("user: Call me\nassistant:", ...length)).trimEnd());
    assert.deepEqual([first.finishReason, first.usage.newTokens], ["length", 8]);
    assert.equal(failed.error.code, "ERR_CONTEXT_LENGTH");
    assert.match(failed.error.message, /no room for an answer\. \/reset begins/);
    // The turn that failed is forgotten.
    assert.ok(second.usage.promptTokens > first.usage.promptTokens && second.usage.promptTokens < 100);
    assert.deepEqual([status, stderr], [1, ""]);
  });

  test("a turn finds those before it in the prefix cache", async () => {
    const ask = async (...flags: string[]) => {
      const { stdout } = await run(
        ["chat", folder, ...length, ...flags, "--json"],
        "Call me\nIshmael\nSome years ago\n",
      );
      return stdout
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line));
    };
    const warm = await ask();
    const cold = await ask("--no-prefix-cache");
    assert.deepEqual(
      warm.map(({ text }) => text),
      cold.map(({ text }) => text),
    );
    assert.ok(warm[2].usage.cachedTokens >= 16);
    assert.deepEqual(
      cold.map(({ usage }) => usage.cachedTokens),
      [0, 0, 0],
    );
  });

  test("an answer ends where the context does", async () => {
    const { status, stdout, stderr } = await run(["chat", folder, "--ignore-eos"], "Call me\n");
    assert.match(stderr, /the answer ends here because the context is full/);
    assert.ok(stdout.length > 1000);
    assert.equal(status, 0);
  });

  test("a template of a file", async () => {
    const file = path.join(folder, "own.jinja");
    await writeFile(file, "{% for m in messages %}{{ m.content }}{% endfor %}");
    const { stdout } = await run(["chat", demo, "--chat-template", file, ...length], "Call me\n");
    assert.equal(stdout, await continuation("Call me", ...length));
  });

  test("models and options that make no chat", async () => {
    const wrong: [string[], number, RegExp][] = [
      [[demo], 1, /has no chat template.*--chat-template.*\(ERR_TOKENIZER\)/],
      [[folder, "--logprobs"], 2, /Found --logprobs,/],
      [[folder, "--prompt-logprobs"], 2, /Found --prompt-logprobs,/],
      [[folder, "--n", "2"], 2, /Found --n 2,/],
      [[folder, "--num-beams", "2"], 2, /Found --num-beams 2,/],
      [[folder, "--top-p", "3"], 2, /--top-p/],
      [["/nowhere/at/all"], 1, /ERR_CHECKPOINT/],
      [[folder, "--chat-template", "/nowhere"], 2, /chat template/],
    ];
    for (const [args, code, message] of wrong) {
      const { status, stdout, stderr } = await run(["chat", ...args], "Call me\n");
      assert.equal(status, code, stderr);
      assert.match(stderr, message);
      assert.equal(stdout, "");
    }
  });
});

describe("signals", () => {
  test("SIGINT stops an answer, and the next line gets one", async () => {
    const args = ["chat", folder, "--ignore-eos", "--threads", "1"];
    const whole = (await run(args, "Call me\n")).stdout;
    const { child, ended, wrote } = start(args);
    child.stdin.write("Call me\n");
    await wrote;
    child.kill("SIGINT");
    child.stdin.end("/reset\nCall me\n/exit\n");
    const { status, stdout, stderr } = await ended;
    assert.equal(status, 0, stderr);
    assert.ok(stdout.endsWith(whole));
    const stopped = stdout.slice(0, -whole.length);
    assert.ok(stopped.endsWith("\n") && stopped.length < whole.length && whole.startsWith(stopped.slice(0, -1)));
  });

  test("SIGINT with no answer to stop, and SIGTERM", async () => {
    for (const [signal, code] of [
      ["SIGINT", 130],
      ["SIGTERM", 143],
    ] as const) {
      const { child, ended } = start(["chat", folder, "--json", ...length]);
      const answered = new Promise((resolve) => child.stdout.once("data", resolve));
      child.stdin.write("Call me\n");
      await answered;
      // The line is written a moment before the turn is over.
      await new Promise((resolve) => setTimeout(resolve, 100));
      child.kill(signal);
      assert.equal((await ended).status, code);
    }
  });
});

describe("a terminal", () => {
  const hasScript = spawnSync("script", ["--version"]).status === 0;

  /** Runs the command behind a pseudo terminal of util-linux's script. */
  function open(...flags: string[]) {
    const command = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
    const line = [process.execPath, command, "chat", folder, ...flags].map((word) => `'${word}'`).join(" ");
    const child = spawn("script", ["-qfec", line, "/dev/null"]);
    let shown = "";
    let check = () => {};
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => {
        shown += text;
        check();
      });
    const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
    /** Resolves with what was shown since the last time, when it has this in it. */
    const until = (wanted: RegExp) =>
      new Promise<string>((resolve) => {
        check = () => {
          if (!wanted.test(shown)) return;
          const found = shown;
          shown = "";
          check = () => {};
          resolve(found);
        };
        check();
      });
    return { type: (text: string) => child.stdin.write(text), until, ended };
  }

  /** The cursor stands behind the prompt. */
  const prompt = /> .\[3G$/;
  const options = { skip: hasScript ? false : "util-linux's script is not installed", timeout: 60_000 };

  test("history, Ctrl-C, pasted lines, Ctrl-D", options, async () => {
    const { type, until, ended } = open("--ignore-eos", "--max-new-tokens", "300");
    assert.match(await until(prompt), /\/help lists commands/);
    type("Call me\r");
    await until(/ I was/);
    type("\u0003");
    assert.match(await until(prompt), /\[stopped\]/);
    type("\u001b[A");
    await until(/> Call me/);
    type("\u0003");
    await until(prompt);
    type("/reset\r");
    await until(prompt);
    // Lines of a pasted text are one message, which Enter sends.
    type("\u001b[200~one\rtwo\u001b[201~");
    await until(/two/);
    type("\r");
    assert.match(await until(prompt), /\[cut after 300 tokens/);
    type("\u0004");
    assert.equal(await ended, 0);
  });

  test("Ctrl-C at the prompt leaves", options, async () => {
    const { type, until, ended } = open();
    await until(prompt);
    type("\u0003");
    assert.equal(await ended, 0);
  });
});
