import assert from "node:assert/strict";
import { test } from "node:test";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { chooseFormat, renderMetrics } from "../../../dist/serving/metrics/render.js";
import { readMetricNames } from "../../../dist/serving/metrics/server_metrics.js";
import { makeMetrics, readSamples } from "./support.js";

function someMetrics(): Registry {
  const registry = new Registry();
  const registers = [registry];
  new Counter({ name: "a_total", help: 'Counts\nlines \\ and "quotes".', labelNames: ["x"], registers }).inc(
    { x: 'q"\\\n' },
    2,
  );
  new Counter({ name: "Requests2XX", help: "Theirs.", registers }).inc(3);
  new Gauge({ name: "vllm:g", help: "G.", registers }).set(Number.POSITIVE_INFINITY);
  new Histogram({ name: "h_seconds", help: "H.", buckets: [0.5], registers }).observe(0.25);
  return registry;
}

test("the text format has names, escapes and buckets as Prometheus reads them", async () => {
  assert.equal(
    await renderMetrics(someMetrics(), "text"),
    `# HELP a_total Counts\\nlines \\\\ and "quotes".
# TYPE a_total counter
a_total{x="q\\"\\\\\\n"} 2
# HELP Requests2XX Theirs.
# TYPE Requests2XX counter
Requests2XX 3
# HELP vllm:g G.
# TYPE vllm:g gauge
vllm:g +Inf
# HELP h_seconds H.
# TYPE h_seconds histogram
h_seconds_bucket{le="0.5"} 1
h_seconds_bucket{le="+Inf"} 1
h_seconds_sum 0.25
h_seconds_count 1
`,
  );
});

test("OpenMetrics names families without _total, keeps TorchServe's names, and ends with EOF", async () => {
  const registry = someMetrics();
  const text = await renderMetrics(registry, "openmetrics");
  assert.match(text, /^# HELP a Counts\\nlines \\\\ and \\"quotes\\"\.\n# TYPE a counter\na_total\{/);
  assert.match(text, /\n# TYPE Requests2XX unknown\nRequests2XX 3\n/);
  assert.match(text, /\nh_seconds_count 1\n# EOF\n$/);
  // Writing one format changes nothing of the other.
  assert.match(await renderMetrics(registry, "text"), /^# HELP a_total .*\n# TYPE a_total counter\na_total\{/);
});

test("both formats have the same samples", async () => {
  const metrics = makeMetrics();
  metrics.modelRegistered("opt");
  const names = async (accept?: string) => [...(await readSamples(metrics, accept)).keys()].sort();
  assert.deepEqual(await names("application/openmetrics-text"), await names());
});

test("name[] leaves the others out, by family or sample", async () => {
  const names = (query: string) => readMetricNames(new URLSearchParams(query));
  assert.deepEqual(names("name[]=a&name%5B%5D=b&name[]="), ["a", "b"]);
  const only = await renderMetrics(someMetrics(), "text", ["Requests2XX", "h_seconds_bucket"]);
  assert.deepEqual(only.match(/(?<=# TYPE )\S+/g), ["Requests2XX", "h_seconds"]);
  assert.equal(await renderMetrics(someMetrics(), "openmetrics", ["none"]), "# EOF\n");
});

test("the Accept header chooses", async () => {
  const prometheus =
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
  assert.equal(chooseFormat(prometheus), "openmetrics");
  assert.equal(chooseFormat("text/plain;version=0.0.4;q=1,application/openmetrics-text;q=0.5"), "text");
  assert.equal(chooseFormat("text/plain, application/openmetrics-text"), "openmetrics");
  assert.equal(chooseFormat("application/openmetrics-text;q=0"), "text");
  for (const accept of [undefined, "*/*", "", "application/json", ";;q=,,"]) assert.equal(chooseFormat(accept), "text");
  const { contentType } = await makeMetrics().render("application/openmetrics-text");
  assert.equal(contentType, "application/openmetrics-text; version=1.0.0; charset=utf-8");
  assert.equal((await makeMetrics().render()).contentType, "text/plain; version=0.0.4; charset=utf-8");
});
