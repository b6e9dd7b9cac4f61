import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { drawArrivals } from "../../dist/bench/arrivals.js";
import { Random } from "../../dist/bench/random.js";

const moments = (values: number[]) => {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
  return { mean, variance };
};
const near = (found: number, expected: number, part: number) =>
  assert.ok(Math.abs(found - expected) <= expected * part, `${found} is not near ${expected}`);

describe("Random", () => {
  test("gives the same numbers for a seed, and others for another seed or stream", () => {
    const draw = (seed: number, stream?: number) => {
      const random = new Random(seed, stream);
      return [random.uniform(), random.integer(0, 1e6), random.normal(), random.gamma(0.5)];
    };
    assert.deepEqual(draw(7), draw(7));
    const lists = [draw(7), draw(8), draw(7, 1), draw(7 + 2 ** 32), draw(0)];
    assert.equal(new Set(lists.map(String)).size, lists.length);
  });

  test("is uniform: mean 1/2, variance 1/12, integers from end to end", () => {
    const random = new Random(1);
    const { mean, variance } = moments(Array.from({ length: 20000 }, () => random.uniform()));
    near(mean, 1 / 2, 0.02);
    near(variance, 1 / 12, 0.03);
    const integers = new Set(Array.from({ length: 1000 }, () => random.integer(3, 6)));
    assert.deepEqual([...integers].sort(), [3, 4, 5, 6]);
  });

  for (const shape of [0.25, 1, 4]) {
    test(`has a gamma distribution of shape ${shape}: mean and variance are the shape`, () => {
      const random = new Random(2);
      const { mean, variance } = moments(Array.from({ length: 40000 }, () => random.gamma(shape)));
      near(mean, shape, 0.03);
      near(variance, shape, 0.08);
    });
  }

  test("shuffles: all elements, another order", () => {
    const list = Array.from({ length: 50 }, (_, i) => i);
    const shuffled = new Random(3).shuffle(list);
    assert.notDeepEqual(shuffled, list);
    assert.deepEqual(
      [...shuffled].sort((a, b) => a - b),
      list,
    );
  });
});

describe("drawArrivals", () => {
  test("adds up gamma gaps of mean 1 / rate and scales them so that the last hits n / rate", () => {
    const options = { requestRate: 4, burstiness: 0.5 };
    const times = drawArrivals(200, options, new Random(5));
    const random = new Random(5);
    let sum = 0;
    const plain = Array.from({ length: 200 }, () => (sum += random.gamma(0.5) / (4 * 0.5)));
    for (const [i, time] of times.entries()) near(time, ((plain[i] as number) * 50) / sum, 1e-9);
    near(times.at(-1) as number, 50, 1e-12);
  });

  test("has gaps with the variation that burstiness asks for: 1 / sqrt(burstiness)", () => {
    for (const burstiness of [0.5, 1, 4]) {
      const times = drawArrivals(20000, { requestRate: 10, burstiness }, new Random(6));
      const gaps = times.map((time, i) => time - (times[i - 1] ?? 0));
      assert.ok(gaps.every((gap) => gap >= 0));
      const { mean, variance } = moments(gaps);
      near(mean, 0.1, 1e-6);
      near(Math.sqrt(variance) / mean, 1 / Math.sqrt(burstiness), 0.05);
    }
  });

  test("sends everything at once without a rate", () => {
    assert.deepEqual(drawArrivals(3, { requestRate: Infinity, burstiness: 1 }, new Random(0)), [0, 0, 0]);
  });
});
