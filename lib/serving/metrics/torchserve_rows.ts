import type { MetricRow } from "./row.js";

const host = ["Level", "Hostname"] as const;
const gpu = ["Level", "DeviceId", "Hostname"] as const;
const model = ["ModelName", "Level", "Hostname"] as const;
const request = ["model_name", "model_version", "hostname"] as const;

function gauge<Labels extends readonly string[]>(labels: Labels, help: string) {
  return { type: "gauge", labels, help } as const;
}

function counter<Labels extends readonly string[]>(labels: Labels, help: string) {
  return { type: "counter", labels, help } as const;
}

/** TorchServe's metrics. Its latencies are sums and no histograms. */
export const torchServeRows = {
  Requests2XX: counter(host, "Responses with a status from 200 to 299."),
  Requests4XX: counter(host, "Responses with a status from 400 to 499."),
  Requests5XX: counter(host, "Responses with a status of 500 or more."),
  ts_inference_requests_total: counter(request, "Requests that a handler answered."),
  ts_inference_latency_microseconds: counter(
    request,
    "Sum of the times from a handler's request to its response, in microseconds.",
  ),
  ts_queue_latency_microseconds: counter(
    request,
    "Sum of the times that requests of handlers waited for a worker, in microseconds.",
  ),
  QueueTime: gauge(host, "Time that the latest batch waited for a worker, in milliseconds."),
  WorkerThreadTime: gauge(host, "Time of the latest batch outside of its handler, in milliseconds."),
  WorkerLoadTime: gauge(
    ["WorkerName", "Level", "Hostname"],
    "Time in which the worker loaded its model, in milliseconds.",
  ),
  HandlerTime: gauge(model, "Time of the latest batch in its handler's handle(), in milliseconds."),
  PredictionTime: gauge(model, "Time of the latest batch in its worker, in milliseconds."),
  CPUUtilization: gauge(host, "Use of the processors since the last reading, in percent."),
  MemoryUsed: gauge(host, "Memory in use, in megabytes."),
  MemoryAvailable: gauge(host, "Memory that is free or can be freed, in megabytes."),
  MemoryUtilization: gauge(host, "Memory in use, in percent."),
  DiskUsage: gauge(host, "Space in use on the disk of /, in gigabytes."),
  DiskAvailable: gauge(host, "Free space on the disk of /, in gigabytes."),
  DiskUtilization: gauge(host, "Space in use on the disk of /, in percent."),
  GPUMemoryUsed: gauge(gpu, "Memory of the GPU in use, in megabytes, by nvidia-smi."),
  GPUMemoryUtilization: gauge(gpu, "Memory of the GPU in use, in percent, by nvidia-smi."),
  GPUUtilization: gauge(gpu, "Use of the GPU, in percent, by nvidia-smi."),
} as const satisfies Record<string, MetricRow>;
