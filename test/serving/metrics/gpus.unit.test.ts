import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { GpuMeter, parseGpus } from "../../../dist/serving/metrics/gpus.js";
import { ServerMetrics } from "../../../dist/serving/metrics/server_metrics.js";
import { readSamples } from "./support.js";

let folder: string;
const earlier = process.env.PATH;
before(() => {
  folder = mkdtempSync(path.join(tmpdir(), "gpus-"));
  process.env.PATH = `${folder}:${earlier}`;
});
after(() => {
  process.env.PATH = earlier;
  rmSync(folder, { recursive: true });
});

/** A nvidia-smi that notes its arguments. */
function install(output: string): void {
  const script = `#!/bin/sh\necho "$@" >> ${folder}/asked\ncat <<'END'\n${output}\nEND\n`;
  writeFileSync(path.join(folder, "nvidia-smi"), script, { mode: 0o755 });
}

const asked = () => readFileSync(path.join(folder, "asked"), "utf8").trim().split("\n");

test("GPUs are measured as TorchServe does", async () => {
  install("0, 20390, 81559, 37\n1, 0, 81559, 0");
  const metrics = new ServerMetrics({ version: "1", device: "auto", hostname: "here" });
  const samples = await readSamples(metrics);
  const of = (name: string, id: number) => samples.get(`${name}{Level="Host",Hostname="here",DeviceId="${id}"}`);
  assert.deepEqual(
    [of("GPUMemoryUsed", 0), of("GPUMemoryUtilization", 0), of("GPUUtilization", 0)],
    [20390, (100 * 20390) / 81559, 37],
  );
  assert.deepEqual([of("GPUMemoryUsed", 1), of("GPUUtilization", 1)], [0, 0]);
  assert.match(asked()[0] as string, /--query-gpu=index,memory\.used,memory\.total,utilization\.gpu --format=csv/);
  metrics.close();
  for (const quiet of [
    { device: "cpu", disableSystemMetrics: false },
    { device: "auto", disableSystemMetrics: true },
  ]) {
    const none = new ServerMetrics({ version: "1", hostname: "here", ...quiet });
    assert.ok([...(await readSamples(none)).keys()].every((name) => !name.startsWith("GPU")));
    none.close();
  }
});

test("a reading does not wait for a later measurement, and not all readings measure", async () => {
  install("0, 1, 10, 1");
  const meter = new GpuMeter();
  const [first] = await Promise.all([meter.measure(0), meter.measure(0)]);
  assert.deepEqual(first, [{ deviceId: 0, GPUMemoryUsed: 1, GPUMemoryUtilization: 10, GPUUtilization: 1 }]);
  const count = asked().length;
  install("0, 2, 10, 2");
  assert.deepEqual(await meter.measure(4000), first);
  assert.equal(asked().length, count);
  assert.deepEqual(await meter.measure(6000), first);
  for (let i = 0; i < 500 && (await meter.measure(7000)) === first; i++) await sleep(5);
  assert.equal((await meter.measure(7000))[0]?.GPUUtilization, 2);
  rmSync(path.join(folder, "nvidia-smi"));
});

test("what a GPU does not tell is absent", () => {
  assert.deepEqual(parseGpus("0, [N/A], [N/A], [N/A]\n"), [{ deviceId: 0 }]);
  assert.deepEqual(parseGpus("3, 5, [N/A], 7"), [{ deviceId: 3, GPUMemoryUsed: 5, GPUUtilization: 7 }]);
  assert.deepEqual(parseGpus("No devices were found\n"), []);
});
