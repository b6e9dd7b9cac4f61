// The measurements of bench/serve, a function each.
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { median } from "../figures.mjs";
import { ask, completion, makeAgent } from "./client.mjs";
import { processorMs, residentBytes } from "./server.mjs";

const prompt = "It is a truth universally acknowledged";
const streams = 16;
const range = (count) => Array.from({ length: count }, (_, i) => i);

export function percentile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)];
}

async function time(work) {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/**
 * What HTTP adds to a call of one token: the engine of this process, the server's, and by the same client a server of nothing but node:http are
 * asked by turns.
 */
export async function measureOverhead({ url, pid, worker }, empty, engine, requests) {
  const agent = makeAgent();
  const local = () => time(() => engine.generate(prompt, { maxNewTokens: 1, ignoreEos: true }));
  const remote = (where = url) => time(() => ask(where, agent, completion(prompt, 1)));
  const round = async () => ({ localMs: await local(), remoteMs: await remote(), emptyMs: await remote(empty.url) });
  for (const _ of range(20)) await round();
  const usedBefore = [pid, worker()].map(processorMs);
  const rounds = [];
  for (const _ of range(requests)) rounds.push(await round());
  const [serverMs, workerMs] = [pid, worker()].map((one, i) => (processorMs(one) - usedBefore[i]) / requests);
  agent.destroy();
  const added = rounds.map(({ localMs, remoteMs }) => remoteMs - localMs);
  const p50 = (name) => median(rounds.map((one) => one[name]));
  return {
    requests,
    localP50Ms: p50("localMs"),
    remoteP50Ms: p50("remoteMs"),
    emptyP50Ms: p50("emptyMs"),
    overheadP50Ms: median(added),
    overheadP99Ms: percentile(added, 0.99),
    processorMs: { server: serverMs, worker: workerMs },
  };
}

/**
 * Tokens a second of 16 streams, of the engine and over HTTP by turns. The fewer tokens a stream has, the more its request and its end weigh.
 */
export async function measureStreams({ url }, engine, { tokens, repeat }) {
  const agent = makeAgent();
  const local = async () => {
    for await (const _chunk of engine.stream(prompt, { maxNewTokens: tokens, ignoreEos: true }));
  };
  const remote = async () => {
    const { whole } = await ask(url, agent, completion(prompt, tokens, { stream: true }));
    if (!whole) throw new Error("A stream did not come to its end.");
  };
  const speed = async (one) => (streams * tokens * 1000) / (await time(() => Promise.all(range(streams).map(one))));
  await speed(local);
  await speed(remote);
  const runs = [];
  for (const _ of range(repeat)) {
    const [engineTokensPerSecond, serverTokensPerSecond] = [await speed(local), await speed(remote)];
    runs.push({ engineTokensPerSecond, serverTokensPerSecond, ratio: serverTokensPerSecond / engineTokensPerSecond });
  }
  agent.destroy();
  return { streams, tokens, ratio: median(runs.map(({ ratio }) => ratio)), runs };
}

/** Many clients, each of which asks again and again. Every answer is right, or says that the queue is full. */
export async function measureClients({ url, pid, worker }, clients, seconds) {
  const agent = makeAgent();
  const body = completion(prompt, 8);
  const { text: expected } = await ask(url, agent, body);
  const counts = { right: 0, refused: 0, wrong: 0, lost: 0 };
  const until = performance.now() + seconds * 1000;
  const memory = [];
  const watch = setInterval(() => {
    memory.push({ server: residentBytes(pid), worker: residentBytes(worker()) });
  }, 250);
  await Promise.all(
    range(clients).map(async (i) => {
      await sleep(i % 500);
      while (performance.now() < until) {
        const { status, text } = await ask(url, agent, i % 2 === 0 ? body : { ...body, stream: true });
        if (status === 200) counts[text === expected ? "right" : "wrong"]++;
        else if (status === 503) counts.refused++;
        else counts.lost++;
        if (status !== 200) await sleep(500 + Math.random() * 1000);
      }
    }),
  );
  clearInterval(watch);
  agent.destroy();
  const bytes = (name, share) => memory[Math.floor((memory.length - 1) * share)]?.[name] ?? 0;
  const growth = (name) => ({ earlyBytes: bytes(name, 0.3), lateBytes: bytes(name, 1) });
  return { clients, seconds, ...counts, serverMemory: growth("server"), workerMemory: growth("worker") };
}

/** SIGKILL to the worker while it streams: how many lose their answer, and how long until there is one again. */
export async function measureKill({ url, worker }) {
  const agent = makeAgent();
  const running = await startStreams(url, agent, streams, 480);
  const killedAt = performance.now();
  process.kill(worker(), "SIGKILL");
  const lost = (await Promise.all(running)).filter(({ whole }) => !whole).length;
  while ((await ask(url, agent, completion(prompt, 1))).status !== 200) await sleep(5);
  const backMs = performance.now() - killedAt;
  agent.destroy();
  return { inFlight: streams, lost, backMs };
}

/** SIGTERM while streams are under way. */
export async function measureDrain({ url, kill, ended }) {
  const agent = makeAgent();
  const running = await startStreams(url, agent, streams, 480);
  const toldAt = performance.now();
  kill("SIGTERM");
  while ((await fetch(`${url}/ready`)).status === 200) await sleep(5);
  const { status: newStatus } = await ask(url, makeAgent(), completion(prompt, 1));
  const answered = (await Promise.all(running)).filter(({ whole }) => whole).length;
  const { status: exitStatus } = await ended;
  return { accepted: streams, answered, newStatus, exitStatus, endedAfterMs: performance.now() - toldAt };
}

/** Streams that all have begun. */
async function startStreams(url, agent, count, tokens) {
  const running = [];
  const begun = range(count).map(
    () =>
      new Promise((resolve) => {
        running.push(ask(url, agent, completion(prompt, tokens, { stream: true }), resolve));
      }),
  );
  await Promise.all(begun);
  return running;
}

/** Whether a text is the same alone and among 32 others, greedy and with a seed. */
export async function measureEquality({ url }) {
  const agent = makeAgent();
  const bodies = [completion(prompt, 32), completion(prompt, 32, { temperature: 0.9, seed: 5 })];
  const others = range(32).map((i) => completion(`${i} `.repeat(i + 1), 32, { temperature: 1, seed: i }));
  let equal = true;
  for (const body of bodies) {
    const alone = await ask(url, agent, body);
    const [among] = await Promise.all([body, ...others].map((one) => ask(url, agent, one)));
    equal &&= alone.status === 200 && among.text === alone.text;
  }
  agent.destroy();
  return { others: others.length, equal };
}
