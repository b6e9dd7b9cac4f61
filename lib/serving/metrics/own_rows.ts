import type { MetricRow } from "./row.js";

const httpSeconds = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];

function gauge<Labels extends readonly string[]>(labels: Labels, help: string) {
  return { type: "gauge", labels, help } as const;
}

function counter<Labels extends readonly string[]>(labels: Labels, help: string) {
  return { type: "counter", labels, help } as const;
}

/** Metrics that have no name elsewhere. */
export const ownRows = {
  shardspeed_http_requests_total: counter(["route", "method", "code"], "Responses, by the route's pattern."),
  shardspeed_http_request_duration_seconds: {
    type: "histogram",
    labels: ["route"],
    help: "Time from a request's headers to the end of its response.",
    buckets: httpSeconds,
  },
  shardspeed_http_requests_in_flight: gauge([], "Requests that are being answered."),
  shardspeed_rejected_total: counter(
    ["reason"],
    "Requests that were refused: queue_full, loading, draining, timeout, auth or too_large.",
  ),
  shardspeed_ignored_fields_total: counter(["field"], "Requests with a field that is known and has no effect."),
  shardspeed_worker_restarts_total: counter(
    ["model", "reason"],
    "Workers that were started anew: after an exit, a kill, out_of_memory, a timeout, or load_failed.",
  ),
  shardspeed_workers: gauge(["model", "state"], "Workers, by state: loading, ready, restarting, stopping or failed."),
  shardspeed_queue_depth: gauge(["model"], "Requests that wait for a worker."),
  shardspeed_kv_pages: gauge(["model", "state"], "Pages of the KV caches of all workers: used or free."),
  shardspeed_rank_memory_bytes: gauge(
    ["model", "rank", "kind"],
    "Memory of a rank, of all workers together: weights, kv_cache or activations.",
  ),
  shardspeed_rank_wait_seconds_total: counter(
    ["model", "rank"],
    "Time in sums over ranks and in gathering logits, waiting for slower ranks included. Measured at rank 0.",
  ),
  shardspeed_model_load_seconds: gauge(["model"], "Time in which the latest worker loaded the model."),
  shardspeed_engine_steps_total: counter(["model"], "Steps of all engines."),
  shardspeed_last_step_timestamp_seconds: gauge(["model"], "Time of the latest step, in seconds since 1970."),
  shardspeed_event_loop_lag_seconds: gauge([], "Longest delay of the server's event loop since the last reading."),
  shardspeed_build_info: gauge(["version", "node", "device"], "Always 1: the labels describe the server."),
} as const satisfies Record<string, MetricRow>;
