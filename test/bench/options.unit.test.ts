import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { BenchFlags } from "../../dist/bench/options.js";
import { optionsOf } from "./support.js";

describe("the options of a bench", () => {
  test("have the backend's route, and an address from host and port", () => {
    assert.equal(optionsOf({}).endpoint, "/v1/completions");
    assert.equal(optionsOf({ backend: "openai-chat" }).endpoint, "/v1/chat/completions");
    assert.equal(optionsOf({ endpoint: "/x" }).endpoint, "/x");
    assert.equal(optionsOf({ host: "::1", port: 80 }).baseUrl, "http://[::1]:80");
    assert.equal(optionsOf({ baseUrl: "https://a/v1" }).baseUrl, "https://a/v1");
  });

  test("ignore the end of a sequence for random prompts only, if not told otherwise", () => {
    assert.equal(optionsOf({}).ignoreEos, true);
    assert.equal(optionsOf({ ignoreEos: false }).ignoreEos, false);
    assert.equal(optionsOf({ datasetName: "custom", datasetPath: "x" }).ignoreEos, false);
    assert.equal(optionsOf({ datasetName: "custom", datasetPath: "x", ignoreEos: true }).ignoreEos, true);
  });

  test("read lists and objects", () => {
    assert.deepEqual(optionsOf({ goodput: ["ttft:500", "e2el:2000.5"] }).goodput, { ttft: 500, e2el: 2000.5 });
    assert.deepEqual(optionsOf({ metricPercentiles: "25, 99.9" }).metricPercentiles, [25, 99.9]);
    assert.deepEqual(optionsOf({ extraBody: '{"top_k":5}' }).extraBody, { top_k: 5 });
  });

  const wrong: [Partial<BenchFlags>, RegExp][] = [
    [{ numPrompts: 0 }, /--num-prompts/],
    [{ requestRate: 0 }, /--request-rate/],
    [{ requestRate: Number.NaN }, /--request-rate/],
    [{ burstiness: 0 }, /--burstiness/],
    [{ maxConcurrency: 0 }, /--max-concurrency/],
    [{ seed: -1 }, /--seed/],
    [{ port: 70000 }, /--port/],
    [{ randomRangeRatio: 1.5 }, /--random-range-ratio/],
    [{ randomInputLen: 0 }, /--random-input-len/],
    [{ customOutputLen: 0 }, /--custom-output-len/],
    [{ endpoint: "v1" }, /--endpoint/],
    [{ goodput: ["itl:5"] }, /--goodput/],
    [{ goodput: ["ttft"] }, /--goodput/],
    [{ percentileMetrics: "ttft,x" }, /--percentile-metrics/],
    [{ metricPercentiles: "50,,99" }, /--metric-percentiles/],
    [{ metricPercentiles: "101" }, /--metric-percentiles/],
    [{ extraBody: "[]" }, /--extra-body/],
    [{ extraBody: "{" }, /--extra-body is not JSON/],
    [{ requestTimeoutS: 0 }, /--request-timeout-s/],
    [{ datasetName: "sharegpt" }, /--dataset-path/],
  ];
  for (const [flags, says] of wrong) {
    test(`refuse ${JSON.stringify(flags)}`, () => {
      assert.throws(() => optionsOf(flags), { code: "ERR_INVALID_ARGUMENT", message: says });
    });
  }
});
