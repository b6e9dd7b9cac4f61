import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { metricNames, metricTable } from "../../dist/serving/metrics/metric_set.js";
import { root } from "../package/programs.js";

test("the tables of docs/metrics.md are those of lib/serving/metrics", () => {
  const text = readFileSync(path.join(root, "docs/metrics.md"), "utf8");
  const rows = [...text.matchAll(/^\| `([\w:]+)` \| (\w+) \| ([^|]*) \| ([^|]*) \|$/gm)].map(([, ...cells]) => cells);
  assert.deepEqual(
    rows,
    metricNames.map((name) => {
      const { type, labels, help } = metricTable[name];
      return [name, type, labels.map((label) => `\`${label}\``).join(", "), help];
    }),
  );
});
