import assert from "node:assert/strict";
import { cp, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { initInference } from "../../dist/index.js";
import { demoModel, fixture } from "../support/fixtures.js";
import { variants } from "../support/golden.js";
import { coverGoldens } from "../support/golden_cover.js";
import type { RankTask } from "../support/rank_process.js";
import { endRanks, launchVariables, type RankEvent, RankProcess, startRanks } from "../support/ranks.js";

// Ranks that are processes, on the CPU: the same tokens, and an end for all when one of them is gone.

const limitMs = 10_000;
const prompt = [5, 6, 7, 8, 9];
const task: RankTask = { models: [demoModel], tpSize: 2, prompt, maxNewTokens: 12 };

async function expectedOf(model: string): Promise<{ greedy: number[]; seeded: number[] }> {
  await using engine = await initInference(model, { config: { dtype: "fp32" }, device: "cpu", threads: 1 });
  const options = { maxNewTokens: task.maxNewTokens, ignoreEos: true };
  const greedy = await engine.generate(prompt, options);
  const seeded = await engine.generate(prompt, { ...options, temperature: 0.8, topP: 0.95, seed: 11 });
  return { greedy: greedy.ids, seeded: seeded.ids };
}

/** Everything that the ranks have said, for messages of failed checks. */
function transcript(ranks: readonly RankProcess[]): string {
  return ranks.map(({ events, stderr }, i) => `rank ${i}: ${JSON.stringify(events)} ${stderr}`).join("\n");
}

function failureOf(rank: RankProcess): RankEvent | undefined {
  return rank.events.find(({ event }) => event === "failed");
}

describe("the same tokens from processes", () => {
  for (const tpSize of [2, 3, 8]) {
    test(`golden models with tp_size ${tpSize}`, async () => {
      // Ranks that are threads compute the same, and with them all models are tried with all sizes.
      const models = coverGoldens(variants, tpSize === 2 ? 2 : 8).map((name) => fixture("golden", name));
      assert.ok(models.length > 0);
      const expected = [];
      for (const model of models) expected.push(await expectedOf(model));
      const ranks = await startRanks(tpSize, () => ({ ...task, models, tpSize }));
      try {
        await Promise.all(ranks.map(({ ended }) => ended));
        const found = ranks[0]?.events
          .filter(({ event }) => event === "tokens")
          .map(({ greedy, seeded }) => ({ greedy, seeded }));
        assert.deepEqual(found, expected, transcript(ranks).slice(0, 2000));
        for (const [i, rank] of ranks.entries()) {
          assert.equal(rank.events.filter(({ event }) => event === "done").length, models.length, transcript(ranks));
          assert.equal(rank.events.find(({ event }) => event === "ready")?.driver, i === 0);
          assert.equal(rank.events.find(({ event }) => event === "ready")?.memory?.length, tpSize);
          assert.equal((await rank.ended).code, 0);
        }
      } finally {
        await endRanks(ranks);
      }
    });
  }

  test("four processes with tp_size 2 are two replicas", async () => {
    const { greedy } = await expectedOf(demoModel);
    const ranks = await startRanks(4, () => task);
    try {
      await Promise.all(ranks.map(({ ended }) => ended));
      const drivers = ranks.filter(({ events }) => events.some(({ driver }) => driver === true));
      assert.deepEqual(drivers, [ranks[0], ranks[2]], transcript(ranks));
      for (const driver of drivers)
        assert.deepEqual(driver.events.find(({ event }) => event === "tokens")?.greedy, greedy);
    } finally {
      await endRanks(ranks);
    }
  });

  test("rank 0 alone opens a model that drafts", async () => {
    const { greedy, seeded } = await expectedOf(demoModel);
    const speculation = { method: "draft", model: demoModel, adaptive: false };
    // The rank that follows would fail with a folder that is not there.
    const tasks = [speculation, { ...speculation, model: "/nowhere/draft" }];
    const ranks = await startRanks(2, (rank) => ({ ...task, options: { speculation: tasks[rank] } }));
    try {
      await Promise.all(ranks.map(({ ended }) => ended));
      const tokens = ranks[0]?.events.find(({ event }) => event === "tokens");
      assert.deepEqual([tokens?.greedy, tokens?.seeded], [greedy, seeded], transcript(ranks));
      for (const { events } of ranks) {
        const [first, second] = events.find(({ event }) => event === "ready")?.memory ?? [];
        assert.ok(first && second && first.weightBytes > 2 * second.weightBytes, transcript(ranks));
      }
    } finally {
      await endRanks(ranks);
    }
  });

  test("and where it cannot, all hear of it", async () => {
    const speculation = { method: "draft", model: fixture("golden", "llama") };
    const ranks = await startRanks(2, () => ({ ...task, options: { speculation } }));
    try {
      await Promise.all(ranks.map(({ ended }) => ended));
      assert.match(failureOf(ranks[0] as RankProcess)?.message ?? "", /cannot draft/, transcript(ranks));
      assert.equal(failureOf(ranks[1] as RankProcess)?.code, "ERR_COMM", transcript(ranks));
    } finally {
      await endRanks(ranks);
    }
  });

  test("a driver that ends without dispose() ends the others, and is no failure", async () => {
    const ranks = await startRanks(3, (rank) => ({ ...task, tpSize: 3, careless: rank === 0 }));
    try {
      await Promise.all(ranks.map(({ ended }) => ended));
      for (const rank of ranks.slice(1)) {
        assert.equal(failureOf(rank), undefined, transcript(ranks));
        assert.ok(rank.events.some(({ event }) => event === "done"));
      }
    } finally {
      await endRanks(ranks);
    }
  });
});

describe("what ranks must agree in", () => {
  test("a tp_size that does not divide WORLD_SIZE is an error on every rank", async () => {
    for (const tpSize of [3, 4]) {
      const ranks = await startRanks(2, () => ({ ...task, tpSize }));
      try {
        await Promise.all(ranks.map(({ ended }) => ended));
        for (const rank of ranks) {
          assert.equal(failureOf(rank)?.code, "ERR_CONFIG", transcript(ranks));
          assert.match(failureOf(rank)?.message as string, /tp_size.*WORLD_SIZE/);
        }
      } finally {
        await endRanks(ranks);
      }
    }
  });

  test("what fails alike everywhere has its own code", async () => {
    const ranks = await startRanks(2, () => ({ ...task, models: [join(demoModel, "nowhere")] }));
    try {
      await Promise.all(ranks.map(({ ended }) => ended));
      const codes = ranks.map((rank) => failureOf(rank)?.code);
      assert.equal(codes[0], codes[1]);
      assert.notEqual(codes[0], "ERR_COMM", transcript(ranks));
    } finally {
      await endRanks(ranks);
    }
  });

  test("different models, dtypes or limits are refused on every rank", async () => {
    const others: Partial<RankTask>[] = [
      { models: [fixture("golden", "opt")] },
      { options: { config: { dtype: "fp16", tensor_parallel: { tp_size: 2 } } } },
      { options: { maxBatchTokens: 7 } },
    ];
    for (const other of others) {
      const ranks = await startRanks(2, (rank) => (rank === 1 ? { ...task, ...other } : task));
      try {
        await Promise.all(ranks.map(({ ended }) => ended));
        for (const rank of ranks) {
          assert.equal(failureOf(rank)?.code, "ERR_COMM", transcript(ranks));
          assert.match(failureOf(rank)?.message as string, /different models or options/);
        }
      } finally {
        await endRanks(ranks);
      }
    }
  });
});

describe("a rank that fails", () => {
  test("with a file that is missing on its host ends all with ERR_COMM", async (t) => {
    const folder = await mkdtemp(join(tmpdir(), "shardspeed-"));
    t.after(() => rm(folder, { recursive: true }));
    const partial = join(folder, "demo");
    await cp(demoModel, partial, { recursive: true });
    await rm(join(partial, "model.safetensors"));
    for (const broken of [0, 1]) {
      const ranks = await startRanks(2, (rank) => ({
        ...task,
        models: [rank === broken ? partial : demoModel],
        again: rank !== broken,
      }));
      try {
        await Promise.all(ranks.map(({ ended }) => ended));
        for (const [i, rank] of ranks.entries()) {
          const failure = failureOf(rank);
          assert.equal(failure?.code, "ERR_COMM", transcript(ranks));
          assert.match(failure?.message as string, new RegExp(`rank ${broken}: .*ERR_CHECKPOINT`));
          assert.equal(failure?.cause, i === broken ? "ERR_CHECKPOINT" : undefined);
          assert.ok((failure?.afterMs as number) < limitMs);
        }
      } finally {
        await endRanks(ranks);
      }
    }
  });

  test("with no device that it can use ends all with ERR_COMM, at once", async () => {
    for (const without of [0, 1]) {
      const ranks = await startRanks(2, (rank) => ({
        ...task,
        ...(rank === without && { options: { device: "cuda:99" } }),
      }));
      try {
        await Promise.all(ranks.map(({ ended }) => ended));
        for (const [i, rank] of ranks.entries()) {
          assert.equal(failureOf(rank)?.code, "ERR_COMM", transcript(ranks));
          assert.match(failureOf(rank)?.message as string, new RegExp(`rank ${without}: .*cuda:99.*ERR_CUDA`));
          assert.equal(failureOf(rank)?.cause, i === without ? "ERR_CUDA" : undefined);
          assert.ok((failureOf(rank)?.afterMs as number) < limitMs);
        }
      } finally {
        await endRanks(ranks);
      }
    }
  });

  test("or is told to give up ends all with ERR_COMM", async () => {
    for (const victim of [0, 1]) {
      for (const abortAfterMs of [30, 90]) {
        // One that gives up before it has met the other is waited for as long as the other is told to.
        const own = { ...task, options: { rendezvousTimeoutMs: 1500 } };
        const ranks = await startRanks(2, (rank) => ({ ...own, ...(rank === victim && { abortAfterMs }) }));
        try {
          await Promise.all(ranks.map(({ ended }) => ended));
          // It may have been ready by then.
          if (ranks[victim]?.events.some(({ event }) => event === "ready")) continue;
          assert.equal(failureOf(ranks[victim] as RankProcess)?.code, "ERR_ABORTED", transcript(ranks));
          const other = ranks[1 - victim] as RankProcess;
          // Or the other was: both had loaded, and the one that gave up heard of its signal first. It leaves as by dispose() then.
          const isReady = other.events.some(({ event }) => event === "ready");
          if (isReady && other.events.at(-1)?.event === "done") continue;
          assert.equal(failureOf(other)?.code, "ERR_COMM", transcript(ranks));
        } finally {
          await endRanks(ranks);
        }
      }
    }
  });

  test("with too little memory ends all with ERR_COMM", async () => {
    const ranks = await startRanks(2, (rank) => (rank === 1 ? { ...task, options: { kvCacheBytes: 10 } } : task));
    try {
      await Promise.all(ranks.map(({ ended }) => ended));
      for (const rank of ranks) {
        assert.equal(failureOf(rank)?.code, "ERR_COMM", transcript(ranks));
        assert.match(failureOf(rank)?.message as string, /ERR_OUT_OF_MEMORY/);
      }
    } finally {
      await endRanks(ranks);
    }
  });
});

describe("a rank that is gone", () => {
  for (const victim of [0, 1, 2]) {
    test(`killed while tokens are made: rank ${victim} of 3`, async () => {
      const ranks = await startRanks(3, () => ({ ...task, tpSize: 3, forever: true, again: true }));
      try {
        await ranks[0]?.waitFor("tokens");
        ranks[victim]?.kill("SIGKILL");
        const began = performance.now();
        const survivors = ranks.filter((_, i) => i !== victim);
        for (const rank of survivors) {
          const failure = await rank.waitFor("failed");
          assert.equal(failure?.code, "ERR_COMM", transcript(ranks));
          assert.match(failure?.message as string, new RegExp(`rank ${victim}`));
        }
        assert.ok(performance.now() - began < limitMs);
        const { greedy } = await expectedOf(demoModel);
        for (const rank of survivors) assert.deepEqual((await rank.waitFor("again"))?.ids, greedy, transcript(ranks));
      } finally {
        await endRanks(ranks);
      }
    });
  }

  for (const victim of [0, 1]) {
    test(`stopped while tokens are made: rank ${victim} of 2; it hears of it when it goes on`, async () => {
      const options = { commTimeoutMs: 2000 };
      const ranks = await startRanks(2, () => ({ ...task, forever: true, options }));
      const stopped = ranks[victim] as RankProcess;
      const other = ranks[1 - victim] as RankProcess;
      try {
        await ranks[0]?.waitFor("tokens");
        stopped.kill("SIGSTOP");
        const began = performance.now();
        const failure = await other.waitFor("failed");
        assert.equal(failure?.code, "ERR_COMM", transcript(ranks));
        assert.ok(performance.now() - began < limitMs);
        assert.equal((await other.ended).code, 0);
        stopped.kill("SIGCONT");
        assert.equal((await stopped.waitFor("failed"))?.code, "ERR_COMM", transcript(ranks));
        assert.equal((await stopped.ended).code, 0);
      } finally {
        await endRanks(ranks);
      }
    });
  }

  test("and started again: the others make a new engine with it", async () => {
    const variables = await launchVariables(2);
    const ranks = [0, 1].map((rank) => new RankProcess({ ...task, forever: true, retry: true }, variables(rank)));
    try {
      await ranks[0]?.waitFor("tokens");
      ranks[1]?.kill("SIGKILL");
      await ranks[0]?.waitFor("failed");
      const restarted = new RankProcess(task, variables(1));
      ranks.push(restarted);
      assert.equal((await restarted.waitFor("ready"))?.rank, 1, transcript(ranks));
      restarted.kill("SIGKILL");
      await ranks[0]?.ended;
      assert.deepEqual(
        ranks[0]?.events.map(({ event }) => event).filter((event) => event !== "tokens"),
        ["opening", "ready", "failed", "opening", "ready", "failed"],
        transcript(ranks),
      );
    } finally {
      await endRanks(ranks);
    }
  });

  test("at thirty random moments", async () => {
    // Other programs may have something there.
    const shared = async () => (await readdir("/dev/shm")).filter((name) => /shardspeed/i.test(name));
    const sharedBefore = await shared();
    // One that has not met the other yet waits for as long as it is told to.
    const options = { rendezvousTimeoutMs: 3000 };
    const round = async (victim: number, milestone: string, afterMs: number) => {
      const ranks = await startRanks(2, () => ({ ...task, forever: true, options }));
      try {
        const survivor = ranks[1 - victim] as RankProcess;
        if (milestone !== "start") await survivor.waitFor(milestone);
        await new Promise((resolve) => setTimeout(resolve, afterMs));
        ranks[victim]?.kill("SIGKILL");
        const began = performance.now();
        const failure = await survivor.waitFor("failed");
        const what = `rank ${victim} ${afterMs} ms after ${milestone}`;
        assert.equal(failure?.code, "ERR_COMM", `${what}: ${transcript(ranks)}`);
        assert.ok(performance.now() - began < limitMs, what);
        assert.equal((await survivor.ended).code, 0, what);
      } finally {
        await endRanks(ranks);
      }
    };
    // While they start, meet, load and work: each time another moment. Two groups at a time.
    const spans: [milestone: string, rounds: number, spanMs: number][] = [
      ["start", 2, 300],
      ["opening", 6, 250],
      ["ready", 7, 60],
    ];
    for (const [milestone, rounds, spanMs] of spans) {
      for (let i = 0; i < rounds; i++) {
        const moment = () => Math.random() * spanMs;
        await Promise.all([round(0, milestone, moment()), round(1, milestone, moment())]);
      }
    }
    assert.deepEqual(await shared(), sharedBefore);
  });
});
