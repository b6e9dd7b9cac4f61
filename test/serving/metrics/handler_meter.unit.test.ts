import assert from "node:assert/strict";
import { test } from "node:test";
import { Metrics } from "../../../dist/handler/metrics.js";
import { ServerMetrics } from "../../../dist/serving/metrics/server_metrics.js";
import { summarizeMetrics } from "../../../dist/serving/worker/handler_metrics.js";

function makeMetrics(): ServerMetrics {
  const metrics = new ServerMetrics({ version: "1", device: "cpu", hostname: "host", disableSystemMetrics: true });
  for (const model of ["opt", "other"]) metrics.modelRegistered(model);
  return metrics;
}

/** The lines of values whose name begins with "my". */
async function linesOf(metrics: ServerMetrics): Promise<string[]> {
  const { body } = await metrics.render();
  return body.split("\n").filter((line) => line.startsWith("my"));
}

test("metrics of a handler are exported by their names, with its dimensions", async () => {
  const metrics = makeMetrics();
  const own = new Metrics();
  for (let pulse = 0; pulse < 2; pulse++) {
    own.addCounter("myHits", 2);
    own.addCounter("myHits", 3);
    own.addTime("myTime", 7 + pulse, undefined, "ms", [{ name: "Stage", value: "pre" }]);
    own.addTime("myTime", 8 + pulse, undefined, "ms", [{ name: "Stage", value: "post" }]);
    own.addError("myError", "it failed");
    metrics.handlerMeasured("opt", summarizeMetrics(own.take()));
  }
  const labels = 'ModelName="opt",Level="Model",Hostname="host"';
  assert.deepEqual(await linesOf(metrics), [
    `myHits{${labels}} 10`,
    `myTime{Stage="pre",${labels}} 8`,
    `myTime{Stage="post",${labels}} 9`,
  ]);
  own.addTime("PredictionTime", 4);
  own.addTime("HandlerTime", 3);
  metrics.handlerMeasured("opt", summarizeMetrics(own.take()));
  const { body } = await metrics.render();
  assert.ok(body.includes(`PredictionTime{${labels}} 4\n`) && body.includes(`HandlerTime{${labels}} 3\n`), body);
  await metrics.modelRemoved("opt");
  metrics.handlerMeasured("opt", [{ name: "myHits", type: "counter", value: 1, dimensions: [] }]);
  assert.deepEqual(await linesOf(metrics), [], "of a model that is gone");
  metrics.close();
});

test("names and labels of a handler are bounded, and never those of the server", async () => {
  const metrics = makeMetrics();
  const take = (name: string, value = 1, dimensions: { name: string; value: string }[] = []) =>
    metrics.handlerMeasured("opt", [{ name, type: "counter", value, dimensions }]);
  take("Requests2XX", 50);
  for (const name of ["my name", "my-name", "", `my${"x".repeat(200)}`]) take(name);
  take("mine", -1);
  take("mineToo", 1, [{ name: "a b", value: "c" }]);
  assert.deepEqual(await linesOf(metrics), []);
  assert.match((await metrics.render()).body, /Requests2XX\{.*\} 0\n/);
  for (let i = 0; i < 300; i++) take("mySeries", 1, [{ name: "Id", value: String(i) }]);
  take("mySeries");
  assert.equal((await linesOf(metrics)).length, 100);
  for (let i = 0; i < 300; i++) take(`myName${i}`);
  assert.equal((await linesOf(metrics)).length, 199);
  metrics.close();
});
