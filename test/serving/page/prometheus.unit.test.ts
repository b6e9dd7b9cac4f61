import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { ServerMetrics } from "../../../dist/serving/metrics/server_metrics.js";
import { rates, readFigures } from "../../../dist/serving/page/browser/figures.js";
import { parseSamples, quantile, readHistogram } from "../../../dist/serving/page/browser/prometheus.js";

describe("the text of metrics", () => {
  test("is read with its labels, whatever they hold", () => {
    const text = [
      "# HELP a Help of {it}",
      "# TYPE a counter",
      "a 1",
      "a{} 2 1700000000",
      'a{model_name="x",engine="0"} 3e2',
      'b:c_total{path="C:\\\\d\\n",text="a \\"b\\" }, c=\\"d\\"",} -0.5',
      "inf{} +Inf",
      "none NaN",
      "bad{ 7",
      "{} 1",
      "",
    ].join("\n");
    assert.deepEqual(parseSamples(text), [
      { name: "a", labels: {}, value: 1 },
      { name: "a", labels: {}, value: 2 },
      { name: "a", labels: { model_name: "x", engine: "0" }, value: 300 },
      { name: "b:c_total", labels: { path: "C:\\d\n", text: 'a "b" }, c="d"' }, value: -0.5 },
      { name: "inf", labels: {}, value: Number.POSITIVE_INFINITY },
    ]);
  });

  test("gives back any label that is written by the rules", () => {
    const write = (value: string) => value.replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n");
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), fc.string(), (first, second) => {
        const line = `m{one="${write(first)}",two="${write(second)}"} 1`;
        assert.deepEqual(parseSamples(line), [{ name: "m", labels: { one: first, two: second }, value: 1 }]);
      }),
    );
  });

  test("is read in time, however bad", () => {
    const start = performance.now();
    parseSamples(`m{${'a="\\'.repeat(50_000)}`);
    parseSamples(`m{${"{".repeat(100_000)}`);
    parseSamples("m ".repeat(100_000));
    assert.ok(performance.now() - start < 2000);
  });
});

describe("a histogram", () => {
  const text = ["0.125", "0.5", "+Inf"]
    .map((le, i) => `h_bucket{le="${le}",m="a"} ${[2, 6, 8][i]}\nh_bucket{le="${le}",m="b"} ${[0, 0, 2][i]}`)
    .join("\n");

  test("is added up over labels, and its buckets are told apart", () => {
    const samples = parseSamples(text);
    const counts = (found: ReturnType<typeof readHistogram>) => found?.buckets.map(({ count }) => count);
    assert.deepEqual(counts(readHistogram(samples, "h")), [2, 4, 4]);
    assert.equal(readHistogram(samples, "h")?.count, 10);
    assert.deepEqual(counts(readHistogram(samples, "h", ({ m }) => m === "a")), [2, 4, 2]);
    assert.equal(readHistogram(samples, "g"), undefined);
  });

  test("has quantiles on lines through its buckets", () => {
    const histogram = readHistogram(parseSamples(text), "h", ({ m }) => m === "a");
    assert.ok(histogram !== undefined);
    assert.equal(quantile(histogram, 0.125), 0.0625);
    assert.equal(quantile(histogram, 0.5), 0.3125);
    assert.equal(quantile(histogram, 1), 0.5, "what is above all ends is at the last of them");
    assert.equal(quantile({ buckets: [], count: 0 }, 0.5), undefined);
  });
});

describe("figures", () => {
  test("are those of the model, or of all where the metrics do not know its name", async () => {
    const metrics = new ServerMetrics({ version: "1", device: "cpu", disableSystemMetrics: true });
    for (const [model, waiting] of [
      ["a", 2],
      ["b", 5],
    ] as const) {
      metrics.modelRegistered(model);
      metrics.queueDepth(model, waiting);
      metrics.workerState(model, "W-1", "ready");
      metrics.workerState(model, "W-2", "loading");
    }
    const { body } = await metrics.render();
    metrics.close();
    const samples = parseSamples(body);
    const read = (model: string | undefined) => {
      const { waiting, workersReady, workersTotal, ranks } = readFigures(samples, model, 0);
      return [waiting, workersReady, workersTotal, ranks.length];
    };
    assert.deepEqual(read("a"), [2, 1, 2, 0]);
    assert.deepEqual(read("b"), [5, 1, 2, 0]);
    assert.deepEqual(read("alias"), [7, 2, 4, 0]);
    assert.deepEqual(read(undefined), [7, 2, 4, 0]);
  });

  test("have ranks in order, with each kind of memory, and pages", () => {
    const kinds = [
      ["weights", 3],
      ["kv_cache", 4],
      ["activations", 5],
    ] as const;
    const lines = [10, 2].flatMap((rank) =>
      kinds.map(([kind, bytes]) => `shardspeed_rank_memory_bytes{model="a",rank="${rank}",kind="${kind}"} ${bytes}`),
    );
    lines.push('shardspeed_kv_pages{model="a",state="used"} 3', 'shardspeed_kv_pages{model="a",state="free"} 9');
    const { ranks, pagesUsed, pagesTotal } = readFigures(parseSamples(lines.join("\n")), "a", 0);
    const memory = { weightBytes: 3, kvCacheBytes: 4, activationBytes: 5 };
    assert.deepEqual(ranks, [
      { rank: 2, ...memory },
      { rank: 10, ...memory },
    ]);
    assert.deepEqual([pagesUsed, pagesTotal], [3, 12]);
  });

  test("give rates between readings, also where the server began again", () => {
    const at = (atMs: number, newTokens: number, promptTokens: number) => ({
      ...readFigures([], undefined, atMs),
      ...{ newTokens, promptTokens },
    });
    assert.deepEqual(rates(at(1000, 10, 4), at(3000, 50, 4)), { newTokens: 20, promptTokens: 0 });
    assert.deepEqual(rates(at(1000, 100, 9), at(2000, 7, 1)), { newTokens: 7, promptTokens: 1 });
    assert.equal(rates(undefined, at(0, 1, 1)), undefined);
    assert.equal(rates(at(5, 1, 1), at(5, 2, 2)), undefined);
  });
});
