import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  countGood,
  latenciesOf,
  peakConcurrency,
  peakTokensPerSecond,
  percentileOf,
  summarize,
  toFigures,
} from "../../dist/bench/statistics.js";
import { outcomeOf } from "./support.js";

describe("statistics", () => {
  test("toFigures: TTFT to the first chunk with tokens, TPOT over the others, gaps between chunks", () => {
    const outcome = outcomeOf({ sentMs: 1000, tokenTimesMs: [1100, 1130, 1190], endMs: 1190 });
    assert.deepEqual(toFigures(outcome, 7, 4), {
      inputTokens: 7,
      outputTokens: 4,
      ttftMs: 100,
      tpotMs: 30, // (190 - 100) / (4 - 1)
      itlsMs: [30, 60],
      e2elMs: 190,
    });
  });

  test("toFigures: no TPOT for one token; without text the end is the first token", () => {
    const outcome = outcomeOf({ sentMs: 10, tokenTimesMs: [], endMs: 60 });
    assert.deepEqual(toFigures(outcome, 1, 1), { inputTokens: 1, outputTokens: 1, ttftMs: 50, itlsMs: [], e2elMs: 50 });
  });

  test("percentileOf interpolates as NumPy does", () => {
    const values = [10, 20, 30, 50];
    assert.equal(percentileOf(values, 0), 10);
    assert.equal(percentileOf(values, 50), 25);
    assert.equal(percentileOf(values, 90), 44); // place 2.7: 30 + 0.7 * 20
    assert.equal(percentileOf(values, 100), 50);
    assert.equal(percentileOf([4], 99), 4);
    assert.equal(percentileOf([], 50), 0);
  });

  test("summarize: mean, median, deviation of the values themselves, percentiles of the unsorted", () => {
    assert.deepEqual(summarize([9, 2, 4, 4, 5, 7, 5, 4], [25, 50]), {
      mean: 5,
      median: 4.5,
      std: 2,
      percentiles: [
        [25, 4],
        [50, 4.5],
      ],
    });
    assert.deepEqual(summarize([], [99]), { mean: 0, median: 0, std: 0, percentiles: [[99, 0]] });
  });

  test("latenciesOf pools the gaps and leaves out requests without a TPOT", () => {
    const long = toFigures(outcomeOf({ tokenTimesMs: [10, 20, 40], endMs: 40 }), 1, 3);
    const short = toFigures(outcomeOf({ tokenTimesMs: [30], endMs: 30 }), 1, 1);
    const of = (name: "ttft" | "tpot" | "itl" | "e2el") => latenciesOf([long, short], name);
    assert.deepEqual([of("ttft"), of("tpot"), of("itl"), of("e2el")], [[10, 30], [15], [10, 20], [40, 30]]);
  });

  test("countGood counts requests that meet all objectives", () => {
    const figures = [
      { inputTokens: 1, outputTokens: 2, ttftMs: 100, tpotMs: 10, itlsMs: [], e2elMs: 500 },
      { inputTokens: 1, outputTokens: 2, ttftMs: 100, tpotMs: 30, itlsMs: [], e2elMs: 500 },
      { inputTokens: 1, outputTokens: 1, ttftMs: 150, itlsMs: [], e2elMs: 900 },
    ];
    assert.equal(countGood(figures, { ttft: 150 }), 3);
    assert.equal(countGood(figures, { ttft: 149 }), 2);
    assert.equal(countGood(figures, { ttft: 150, tpot: 20 }), 2);
    assert.equal(countGood(figures, { tpot: 20, e2el: 600 }), 1);
  });

  test("peakConcurrency counts overlaps, and no request that begins when another ends", () => {
    const spans = (...list: [number, number][]) => list.map(([sentMs, endMs]) => ({ sentMs, endMs }));
    assert.equal(peakConcurrency(spans([0, 10], [10, 20], [20, 30])), 1);
    assert.equal(peakConcurrency(spans([0, 10], [5, 20], [9, 12], [15, 30])), 3);
    assert.equal(peakConcurrency([]), 0);
  });

  test("peakTokensPerSecond finds the fullest second, tokens spread over chunks", () => {
    const requests = [
      { tokenTimesMs: [100, 1100, 1900], outputTokens: 6 },
      { tokenTimesMs: [1999, 2000], outputTokens: 2 },
    ];
    assert.equal(peakTokensPerSecond(requests, 0), 5); // of the second from 1000: 2 + 2 + 1
    assert.equal(peakTokensPerSecond([{ tokenTimesMs: [], outputTokens: 4 }], 0), 0);
  });
});
