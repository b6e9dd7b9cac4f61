import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { demo, type Running, start } from "../../cli/command.js";

// shardspeed serve as a program, with clients that come and go. Nothing here is timed.

interface Served extends Running {
  url: string;
  /** The worker's process now; undefined while there is none. */
  worker(): number | undefined;
}

async function serve(...flags: string[]): Promise<Served> {
  const running = start(["serve", demo, "--host", "127.0.0.1", "--port", "0", "--tp-size", "2", ...flags]);
  let log = "";
  running.child.stdout.on("data", (text: string) => {
    log += text;
  });
  const find = () => /Listening: inference (http:\/\/[\d.:]+)/.exec(log)?.[1];
  for (let i = 0; i < 10_000 && find() === undefined; i++) await sleep(1);
  const url = find() ?? assert.fail(`It does not listen: ${log}`);
  const { pid } = running.child;
  const served = { ...running, url, worker: () => childrenOf(pid as number)[0] };
  await untilReady(served);
  return served;
}

async function untilReady({ url }: { url: string }): Promise<void> {
  for (let i = 0; i < 1000; i++) {
    if ((await fetch(`${url}/ready`)).status === 200) return;
    await sleep(20);
  }
  assert.fail("It is not ready.");
}

function childrenOf(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").split(" ").filter(Boolean).map(Number),
  );
}

const prompts = ["It is a truth universally acknowledged", "Call me", "The", "I am", "She had a", "In my"];

interface Answer {
  status: number;
  text: string;
  /** Whether it came to its end. */
  whole: boolean;
}

/** One completion, streamed or not. */
async function complete(
  url: string,
  i: number,
  { stream = false, tokens = 24, onFirst = () => {} }: { stream?: boolean; tokens?: number; onFirst?(): void } = {},
): Promise<Answer> {
  const prompt = prompts[i % prompts.length];
  const body = { prompt, max_tokens: tokens, temperature: i % 2 === 0 ? 0 : 0.8, seed: 7, ignore_eos: true, stream };
  const headers = { "content-type": "application/json" };
  const response = await fetch(`${url}/v1/completions`, { method: "POST", headers, body: JSON.stringify(body) });
  const { status } = response;
  if (!stream) {
    const { choices, error } = (await response.json()) as { choices?: { text: string }[]; error?: { message: string } };
    return { status, text: choices?.[0]?.text ?? error?.message ?? "", whole: choices !== undefined };
  }
  let all = "";
  try {
    for await (const part of response.body ?? []) {
      if (all === "") onFirst();
      all += Buffer.from(part).toString("latin1");
    }
  } catch {
    return { status, text: "cut", whole: false };
  }
  const events = Buffer.from(all, "latin1").toString("utf8");
  const data = [...events.matchAll(/^data: (\{.*)$/gm)].map(([, json]) => JSON.parse(json as string));
  const text = data.map(({ choices }) => choices?.[0]?.text ?? "").join("");
  return { status, text, whole: events.includes("data: [DONE]") && data.every(({ error }) => error === undefined) };
}

const range = (count: number) => Array.from({ length: count }, (_, i) => i);

describe("a server with clients", () => {
  let served: Served;
  let expected: string[];
  before(async () => {
    served = await serve("--max-num-seqs", "40", "--max-queued-requests", "20");
    expected = [];
    for (const i of range(6)) expected.push((await complete(served.url, i)).text);
  });
  after(async () => {
    served?.child.kill("SIGKILL");
    await served?.ended;
  });
  const right = (i: number) => expected[i % 6];

  test("gives the same text alone and among 32 others, streamed and whole", async () => {
    const answers = await Promise.all(range(33).map((i) => complete(served.url, i, { stream: i % 3 === 0 })));
    for (const [i, { status, text, whole }] of answers.entries()) {
      assert.deepEqual([status, whole], [200, true]);
      assert.equal(text, right(i), `request ${i}`);
    }
  });

  test("loses none of 100 clients: each gets its text, or is told that the queue is full", async () => {
    const worker = served.worker() as number;
    // Nothing is answered meanwhile but refusals: of 100 at once 40 are the worker's, 20 wait, and 40 have no place.
    process.kill(worker, "SIGSTOP");
    let refused = 0;
    let allRefused = () => {};
    const full = new Promise<void>((resolve) => {
      allRefused = resolve;
    });
    const asked = range(100).map(async (i) => {
      const answer = await complete(served.url, i, { stream: i % 2 === 0 });
      if (answer.status === 503 && ++refused === 40) allRefused();
      return answer;
    });
    await full;
    process.kill(worker, "SIGCONT");
    const answers = await Promise.all(asked);
    const done = answers.filter(({ status }) => status === 200).length;
    for (const [i, { status, text, whole }] of answers.entries()) {
      if (status === 200) assert.deepEqual([whole, text], [true, right(i)], `request ${i}`);
      else assert.equal(status, 503);
    }
    assert.equal(done, 60);
  });

  test("loses what a killed worker worked on, and no more", async () => {
    const pid = served.worker() as number;
    let waiting = 40;
    let allBegun = () => {};
    const begun = new Promise<void>((resolve) => {
      allBegun = resolve;
    });
    const onFirst = () => {
      if (--waiting === 0) allBegun();
    };
    const running = range(40).map((i) => complete(served.url, i, { stream: true, tokens: 480, onFirst }));
    await begun;
    // These wait in the server for a place.
    const queued = range(10).map((i) => complete(served.url, i));
    await sleep(50);
    process.kill(pid, "SIGKILL");
    for (const { status, whole } of await Promise.all(running)) assert.deepEqual([status, whole], [200, false]);
    for (const [i, { status, text }] of (await Promise.all(queued)).entries())
      assert.deepEqual([status, text], [200, right(i)]);
    assert.notEqual(served.worker(), pid);
    assert.equal((await complete(served.url, 1)).text, right(1));
    const metrics = await (await fetch(`${served.url}/metrics`)).text();
    assert.match(metrics, /^shardspeed_worker_restarts_total\{[^}]*\} 1$/m);
  });

  test("answers what it has accepted when it is told to end, and refuses what comes then", async () => {
    let begun = () => {};
    const first = new Promise<void>((resolve) => {
      begun = resolve;
    });
    const accepted = range(12).map((i) => complete(served.url, i, { stream: i === 0, tokens: 480, onFirst: begun }));
    await first;
    await sleep(50);
    served.child.kill("SIGTERM");
    for (let i = 0; i < 200 && (await fetch(`${served.url}/ready`)).status === 200; i++) await sleep(5);
    assert.equal((await complete(served.url, 0)).status, 503);
    for (const [i, { status, text, whole }] of (await Promise.all(accepted)).entries()) {
      assert.deepEqual([status, whole], [200, true]);
      assert.ok(text.startsWith(right(i) as string), text);
    }
    const { status, signal, stderr } = await served.ended;
    assert.deepEqual([status, signal, stderr], [0, null, ""]);
  });
});
