import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { type MetricName, MetricSet, metricTable } from "../../../dist/serving/metrics/metric_set.js";
import { root } from "../../package/programs.js";

interface Panel {
  id: number;
  title: string;
  gridPos: { x: number; y: number; w: number; h: number };
  targets?: { expr: string }[];
}

const dashboard: { panels: Panel[]; templating: { list: { definition?: string }[] } } = JSON.parse(
  readFileSync(path.join(root, "deploy/grafana/dashboard.json"), "utf8"),
);

/** Words of a query that are no metrics: functions, labels of by() and of matchers, durations, and Grafana's own. */
function metricsOf(expression: string): string[] {
  const bare = expression
    .replaceAll(/"[^"]*"/g, "")
    .replaceAll(/\bby \([^)]*\)/g, "")
    .replaceAll(/\{[^}]*\}/g, "")
    .replaceAll(/\[[^\]]*\]/g, "");
  return [...bare.matchAll(/[A-Za-z_][\w:]*(?!\w*\s*\()/g)].map(([name]) => name);
}

const labelsIn = (expression: string) =>
  [...expression.matchAll(/(\w+)=~?"/g), ...expression.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, names = ""]) =>
    names.split(",").map((name) => name.trim()),
  );

test("every metric that the dashboard queries exists, with the labels that it is asked by", () => {
  const { registry } = new MetricSet();
  const queries = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
  assert.ok(queries.length > 40);
  const functions = new Set(["time"]);
  const seen = new Set<string>();
  for (const query of queries) {
    for (const name of metricsOf(query).filter((word) => !functions.has(word))) {
      const family = name.replace(/_(bucket|sum|count)$/, "");
      const isHistogram = metricTable[family as MetricName]?.type === "histogram";
      const known = isHistogram ? family !== name : registry.getSingleMetric(name) !== undefined;
      assert.ok(known, `${name} in ${query}`);
      seen.add(family);
    }
    const known = metricsOf(query).flatMap((name) => [
      ...(metricTable[name.replace(/_(bucket|sum|count)$/, "") as MetricName]?.labels ?? []),
      ...(metricTable[name as MetricName]?.labels ?? []),
    ]);
    for (const label of labelsIn(query))
      assert.ok(label === "le" || known.includes(label as never), `${label} in ${query}`);
  }
  // Both sets of names, and our own.
  for (const name of ["vllm:time_to_first_token_seconds", "ts_inference_requests_total", "shardspeed_workers"])
    assert.ok(seen.has(name), name);
  const [, variable] = dashboard.templating.list;
  assert.equal(variable?.definition, "label_values(shardspeed_workers, model)");
});

test("a query that asks for what is not there would be found", () => {
  assert.deepEqual(metricsOf('sum by (le) (rate(vllm:nothing_bucket{a=~"$b"}[$__rate_interval])) / time() - c'), [
    "vllm:nothing_bucket",
    "c",
  ]);
});

test("panels have ids of their own and do not overlap", () => {
  const { panels } = dashboard;
  assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
    Array.from({ length: w * h }, (_, i) => `${x + (i % w)},${y + Math.floor(i / w)}`),
  );
  assert.equal(new Set(cells).size, cells.length);
  assert.ok(panels.every(({ gridPos: { x, w } }) => x + w <= 24));
});
