import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ServerMetrics } from "../../../dist/serving/metrics/server_metrics.js";
import type { WorkerReport } from "../../../dist/serving/metrics/worker_meter.js";
import { makeMetrics, readSamples } from "./support.js";

/** A report of a worker with ten pages. */
function report(
  given: {
    running?: number;
    waiting?: number;
    used?: number;
    prompt?: number;
    generated?: number;
  } & Partial<WorkerReport>,
): WorkerReport {
  const { running = 0, waiting = 0, used = 0, prompt = 0, generated = 0, ...rest } = given;
  return {
    requests: { running, waiting },
    tokens: { prompt, generated },
    kvCache: { pagesTotal: 10, pagesUsed: used, pagesFree: 10 - used, pageTokens: 16 },
    memory: [{ device: "cpu", weightBytes: 5, kvCacheBytes: 6, activationBytes: 7 }],
    steps: 0,
    timings: { stepMs: 0, allReduceMs: 0 },
    preemptions: 0,
    prefixCache: { queries: 0, hits: 0, pages: 0 },
    speculation: { drafts: 0, draftTokens: 0, acceptedTokens: 0, acceptedAt: [] },
    ...rest,
  };
}

test("requests are counted by route, method and code, and as TorchServe counts them", async () => {
  const metrics = makeMetrics();
  for (const code of [200, 204, 404, 503, 500, 302]) {
    metrics.requestReceived();
    metrics.requestFinished({ route: "/v1/models/*", method: "GET", code, seconds: 0.003 });
  }
  metrics.requestReceived();
  metrics.requestFinished({ route: "unmatched", method: "BREW", code: 405, seconds: 1 });
  metrics.requestReceived();
  metrics.rejected("queue_full");
  const samples = await readSamples(metrics);
  assert.equal(samples.get('shardspeed_http_requests_total{route="/v1/models/*",method="GET",code="404"}'), 1);
  assert.equal(samples.get('shardspeed_http_requests_total{route="unmatched",method="other",code="405"}'), 1);
  assert.equal(samples.get('shardspeed_http_request_duration_seconds_bucket{le="0.002",route="/v1/models/*"}'), 0);
  assert.equal(samples.get('shardspeed_http_request_duration_seconds_bucket{le="0.005",route="/v1/models/*"}'), 6);
  assert.equal(samples.get("shardspeed_http_requests_in_flight"), 1);
  assert.equal(samples.get('shardspeed_rejected_total{reason="queue_full"}'), 1);
  assert.equal(samples.get('shardspeed_rejected_total{reason="draining"}'), 0);
  assert.equal(samples.get('Requests2XX{Level="Host",Hostname="here"}'), 2);
  assert.equal(samples.get('Requests4XX{Level="Host",Hostname="here"}'), 2);
  assert.equal(samples.get('Requests5XX{Level="Host",Hostname="here"}'), 2);
});

test("only known fields without effect make labels", async () => {
  const metrics = makeMetrics();
  metrics.ignoredField("store");
  metrics.ignoredField("attacker_made_this_up");
  const { body } = await metrics.render();
  assert.match(body, /shardspeed_ignored_fields_total\{field="store"\} 1/);
  assert.doesNotMatch(body, /attacker/);
});

describe("a generation", () => {
  const labels = 'model_name="opt",engine="1"';

  test("has its times and tokens in vLLM's metrics", async () => {
    const metrics = makeMetrics();
    const meter = metrics.generationStarted({ model: "opt", receivedAt: 1000, maxTokens: 7, n: 2 });
    meter.dispatched(1, 1250);
    meter.prompt(12);
    meter.tokens(1, 1350);
    meter.tokens(2, 1410);
    meter.tokens(0, 5000); // held-back text: no token
    meter.tokens(1, 1450);
    meter.finished("length", 1460);
    meter.finished("abort", 9000);
    meter.tokens(1, 9000);
    const samples = await readSamples(metrics);
    const sum = (name: string) => [
      samples.get(`vllm:${name}_sum{${labels}}`),
      samples.get(`vllm:${name}_count{${labels}}`),
    ];
    const near = (found: (number | undefined)[], expected: [number, number]) => {
      assert.ok(Math.abs((found[0] ?? Number.NaN) - expected[0]) < 1e-9, `${found} ${expected}`);
      assert.equal(found[1], expected[1]);
    };
    near(sum("time_to_first_token_seconds"), [0.35, 1]);
    near(sum("inter_token_latency_seconds"), [0.1, 3]); // 2 x 30 ms, 40 ms
    near(sum("request_time_per_output_token_seconds"), [0.1 / 3, 1]);
    near(sum("e2e_request_latency_seconds"), [0.46, 1]);
    near(sum("request_queue_time_seconds"), [0.25, 1]);
    near(sum("request_prefill_time_seconds"), [0.1, 1]);
    near(sum("request_decode_time_seconds"), [0.1, 1]);
    near(sum("request_inference_time_seconds"), [0.21, 1]);
    near(sum("request_prompt_tokens"), [12, 1]);
    near(sum("request_generation_tokens"), [4, 1]);
    near(sum("request_params_max_tokens"), [7, 1]);
    near(sum("request_params_n"), [2, 1]);
    assert.equal(samples.get(`vllm:prompt_tokens_total{${labels}}`), 12);
    assert.equal(samples.get(`vllm:generation_tokens_total{${labels}}`), 4);
    assert.equal(samples.get(`vllm:request_success_total{${labels},finished_reason="length"}`), 1);
    assert.equal(samples.get(`vllm:request_success_total{${labels},finished_reason="abort"}`), undefined);
  });

  test("that never had a worker counts as what ended it, without times of phases", async () => {
    const metrics = makeMetrics();
    metrics.generationStarted({ model: "opt", receivedAt: 0 }).finished("abort", 20);
    const samples = await readSamples(metrics);
    const none = 'model_name="opt",engine="0"';
    assert.equal(samples.get(`vllm:request_success_total{${none},finished_reason="abort"}`), 1);
    assert.equal(samples.get(`vllm:request_queue_time_seconds_count{${none}}`), undefined);
    assert.equal(samples.get(`vllm:prompt_tokens_total{${none}}`), undefined);
  });
});

describe("workers", () => {
  test("report what they counted, and no counter falls when one dies", async () => {
    const metrics = makeMetrics();
    metrics.modelRegistered("opt");
    const first = metrics.workerStarted("opt", 0);
    first.report(
      report({ steps: 4, prompt: 30, generated: 10, preemptions: 2, timings: { stepMs: 900, allReduceMs: 500 } }),
    );
    first.report(
      report({ steps: 6, prompt: 30, generated: 14, preemptions: 2, timings: { stepMs: 990, allReduceMs: 700 } }),
    );
    first.report(report({ steps: 5 })); // late
    first.end();
    const second = metrics.workerStarted("opt", 0);
    const speculation = { drafts: 3, draftTokens: 9, acceptedTokens: 4, acceptedAt: [3, 1] };
    second.report(report({ steps: 1, prompt: 8, prefixCache: { queries: 8, hits: 4, pages: 2 }, speculation }));
    const samples = await readSamples(metrics);
    const labels = 'model_name="opt",engine="0"';
    assert.equal(samples.get('shardspeed_engine_steps_total{model="opt"}'), 7);
    assert.equal(samples.get(`vllm:num_preemptions_total{${labels}}`), 2);
    assert.equal(samples.get('shardspeed_rank_wait_seconds_total{model="opt",rank="0"}'), 0.7);
    assert.equal(samples.get(`vllm:prefix_cache_hits_total{${labels}}`), 4);
    assert.equal(samples.get(`vllm:spec_decode_num_draft_tokens_total{${labels}}`), 9);
    assert.equal(samples.get(`vllm:spec_decode_num_accepted_tokens_per_pos_total{${labels},position="1"}`), 1);
    assert.equal(samples.get(`vllm:iteration_tokens_total_count{${labels}}`), 7);
    assert.equal(samples.get(`vllm:iteration_tokens_total_sum{${labels}}`), 52);
    assert.equal(samples.get(`vllm:iteration_tokens_total_bucket{le="1",${labels}}`), 0);
    assert.equal(samples.get(`vllm:iteration_tokens_total_bucket{le="8",${labels}}`), 3);
  });

  test("are gauges while they live, and zero afterwards", async () => {
    const metrics = makeMetrics();
    metrics.modelRegistered("opt");
    const workers = [metrics.workerStarted("opt", 0), metrics.workerStarted("opt", 1)];
    workers[0]?.report(report({ running: 3, waiting: 2, used: 6, steps: 1 }), 5500);
    workers[0]?.report(report({ running: 3, waiting: 2, used: 6, steps: 1 }), 9900); // no step since
    workers[1]?.report(report({ running: 1, used: 1 }));
    metrics.queueDepth("opt", 4, "1.0");
    metrics.queueDepth("opt", 9, "2.0");
    metrics.queueDepth("opt", 1, "2.0");
    let samples = await readSamples(metrics);
    const of = (name: string, engine = "0") => samples.get(`vllm:${name}{model_name="opt",engine="${engine}"}`);
    assert.deepEqual([of("num_requests_running"), of("num_requests_running", "1")], [3, 1]);
    assert.deepEqual([of("num_requests_waiting"), of("num_requests_waiting", "1")], [7, 0]);
    assert.deepEqual([of("kv_cache_usage_perc"), of("kv_cache_usage_perc", "1")], [0.6, 0.1]);
    assert.equal(samples.get('shardspeed_queue_depth{model="opt"}'), 5);
    assert.equal(samples.get('shardspeed_kv_pages{model="opt",state="used"}'), 7);
    assert.equal(samples.get('shardspeed_rank_memory_bytes{model="opt",rank="0",kind="kv_cache"}'), 12);
    assert.equal(samples.get('shardspeed_last_step_timestamp_seconds{model="opt"}'), 5.5);
    for (const worker of workers) worker.end();
    samples = await readSamples(metrics);
    assert.deepEqual([of("num_requests_running"), of("kv_cache_usage_perc")], [0, 0]);
    assert.equal(of("num_requests_waiting"), 5);
    assert.equal(samples.get('shardspeed_kv_pages{model="opt",state="used"}'), 0);
    assert.equal(samples.get('shardspeed_rank_memory_bytes{model="opt",rank="0",kind="kv_cache"}'), 0);
  });

  test("have states, restarts and load times", async () => {
    const metrics = makeMetrics();
    metrics.modelRegistered("opt");
    metrics.workerState("opt", "a", "loading");
    metrics.workerState("opt", "b", "loading");
    metrics.workerState("opt", "a", "ready");
    metrics.workerState("opt", "c", "ready");
    metrics.workerState("opt", "c", undefined);
    metrics.workerRestarted("opt", "out_of_memory");
    const cache = { blockSize: 16, blocks: 100, dtype: "fp32" };
    metrics.modelLoaded("opt", { name: "W-9000-opt_1.0", engine: 0, seconds: 2.5, cache });
    const samples = await readSamples(metrics);
    const inState = (state: string) => samples.get(`shardspeed_workers{model="opt",state="${state}"}`);
    assert.deepEqual([inState("loading"), inState("ready"), inState("failed")], [1, 1, 0]);
    assert.equal(samples.get('shardspeed_worker_restarts_total{model="opt",reason="out_of_memory"}'), 1);
    assert.equal(samples.get('WorkerLoadTime{WorkerName="W-9000-opt_1.0",Level="Host",Hostname="here"}'), 2500);
    const described = 'model_name="opt",engine="0",block_size="16",num_gpu_blocks="100",cache_dtype="fp32"';
    assert.equal(samples.get(`vllm:cache_config_info{${described}}`), 1);
  });
});

test("handlers' requests are in TorchServe's counters, the version as the request named it", async () => {
  const metrics = makeMetrics();
  metrics.handlerRequestFinished({ model: "echo", queueMs: 2, totalMs: 10 });
  metrics.handlerRequestFinished({ model: "echo", version: "1.0", queueMs: 0.5, totalMs: 1.5 });
  metrics.handlerRequestFinished({ model: "echo", queueMs: 3, totalMs: 5 });
  metrics.handlerBatchFinished({ model: "echo", handlerMs: 1.25, predictionMs: 1.5, threadMs: 4 });
  const samples = await readSamples(metrics);
  const labels = (version: string) => `{model_name="echo",model_version="${version}",hostname="here"}`;
  assert.equal(samples.get(`ts_inference_requests_total${labels("default")}`), 2);
  assert.equal(samples.get(`ts_inference_requests_total${labels("1.0")}`), 1);
  assert.equal(samples.get(`ts_inference_latency_microseconds${labels("default")}`), 15_000);
  assert.equal(samples.get(`ts_queue_latency_microseconds${labels("1.0")}`), 500);
  assert.equal(samples.get('HandlerTime{ModelName="echo",Level="Model",Hostname="here"}'), 1.25);
  assert.equal(samples.get('WorkerThreadTime{Level="Host",Hostname="here"}'), 4);
});

test("a model that is gone leaves no series behind, and the others theirs", async () => {
  const metrics = makeMetrics();
  const late = metrics.generationStarted({ model: "gone" });
  const lateWorker = metrics.workerStarted("gone", 1);
  for (const model of ["gone", "stays"]) {
    metrics.modelRegistered(model);
    metrics.workerStarted(model, 0).report(report({ steps: 1, prompt: 3 }));
    metrics.workerState(model, "a", "ready");
    metrics.handlerRequestFinished({ model, queueMs: 1, totalMs: 1 });
    metrics.handlerBatchFinished({ model, handlerMs: 1 });
    const meter = metrics.generationStarted({ model });
    meter.tokens(1);
    meter.finished("stop");
  }
  await metrics.modelRemoved("gone");
  // What was under way ends afterwards.
  late.tokens(1);
  late.finished("abort");
  lateWorker.report(report({ steps: 9 }));
  lateWorker.end();
  const { body } = await metrics.render();
  assert.doesNotMatch(body, /"gone"/);
  for (const name of [
    "vllm:e2e_request_latency_seconds_count",
    "ts_inference_requests_total",
    "HandlerTime",
    "shardspeed_workers",
  ])
    assert.match(body, new RegExp(`^${name}\\{[^\n]*"stays"`, "m"));
  metrics.modelRegistered("gone");
  metrics.handlerRequestFinished({ model: "gone", queueMs: 1, totalMs: 1 });
  assert.match((await metrics.render()).body, /^ts_inference_requests_total\{model_name="gone"/m);
});

test("the machine is measured at the reading, in TorchServe's units", async () => {
  const metrics = new ServerMetrics({ version: "1", device: "cpu" });
  const samples = await readSamples(metrics);
  metrics.close();
  const of = (name: string) => [...samples].find(([key]) => key.startsWith(`${name}{`))?.[1] ?? Number.NaN;
  for (const name of ["CPUUtilization", "MemoryUtilization", "DiskUtilization"])
    assert.ok(of(name) >= 0 && of(name) <= 100, name);
  const memory = of("MemoryUsed") + of("MemoryAvailable");
  assert.ok(Math.abs(of("MemoryUtilization") - (100 * of("MemoryUsed")) / memory) < 0.1);
  assert.ok(of("DiskAvailable") > 0);
  assert.ok((samples.get("shardspeed_event_loop_lag_seconds") ?? Number.NaN) >= 0);
  assert.equal(
    [...samples.keys()].some((key) => key.startsWith("process_cpu_seconds_total")),
    true,
  );
  assert.equal((await readSamples(makeMetrics())).size < samples.size, true);
});
