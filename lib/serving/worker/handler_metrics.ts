import type { Metric, MetricDimension } from "../../handler/metrics.js";

/** What a handler has measured of one thing since the last pulse of its worker. */
export interface HandlerMeasure {
  name: string;
  /** A count goes up by the value; of all else the value is the latest one. */
  type: "counter" | "gauge";
  value: number;
  dimensions: readonly MetricDimension[];
}

/** A handler may measure in each request: one value for each name and dimensions is sent. Errors, which are texts, are no metrics of Prometheus. */
export function summarizeMetrics(metrics: readonly Metric[]): HandlerMeasure[] {
  const found = new Map<string, HandlerMeasure>();
  for (const { name, value, unit, dimensions } of metrics) {
    if (typeof value !== "number" || !Number.isFinite(value)) continue;
    const own = dimensions.map((one) => ({ name: String(one.name), value: String(one.value) }));
    const type = unit === "count" ? "counter" : "gauge";
    const key = JSON.stringify([name, type, own]);
    const known = found.get(key);
    if (known === undefined) found.set(key, { name: String(name), type, value, dimensions: own });
    else known.value = type === "counter" ? known.value + value : value;
  }
  return [...found.values()];
}
