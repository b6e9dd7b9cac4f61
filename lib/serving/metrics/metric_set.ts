import { Counter, collectDefaultMetrics, Gauge, Histogram, type Metric, Registry } from "prom-client";
import { ownRows } from "./own_rows.js";
import type { MetricRow } from "./row.js";
import { torchServeRows } from "./torchserve_rows.js";
import { vllmRows } from "./vllm_rows.js";

/** Every metric but those of Node and the process. docs/metrics.md lists the same. */
export const metricTable = { ...torchServeRows, ...vllmRows, ...ownRows } as const satisfies Record<string, MetricRow>;

type Table = typeof metricTable;
export type MetricName = keyof Table;
type NameOf<Type extends MetricRow["type"]> = {
  [Name in MetricName]: Table[Name]["type"] extends Type ? Name : never;
}[MetricName];
export type LabelsOf<Name extends MetricName> = Record<Table[Name]["labels"][number], string | number>;

export const metricNames = Object.keys(metricTable) as MetricName[];

/** Labels whose value is a model's name. */
const modelLabels = ["model", "model_name", "ModelName"];

/** The metrics of one server, in a registry of their own. */
export class MetricSet {
  readonly registry = new Registry();
  readonly #goneModels = new Set<string>();

  constructor() {
    for (const name of metricNames) {
      const row: MetricRow = metricTable[name];
      const common = { name, help: row.help, labelNames: [...row.labels], registers: [this.registry] };
      if (row.type === "counter") new Counter(common);
      else if (row.type === "gauge") new Gauge(common);
      else new Histogram({ ...common, buckets: [...(row.buckets ?? [])] });
    }
    collectDefaultMetrics({ register: this.registry });
  }

  count<Name extends NameOf<"counter">>(name: Name, labels: LabelsOf<Name>, value = 1): void {
    if (!this.#isGone(labels)) (this.#get(name) as Counter).inc(labels, value);
  }

  set<Name extends NameOf<"gauge">>(name: Name, labels: LabelsOf<Name>, value: number): void {
    if (!this.#isGone(labels)) (this.#get(name) as Gauge).set(labels, value);
  }

  add<Name extends NameOf<"gauge">>(name: Name, labels: LabelsOf<Name>, value: number): void {
    if (!this.#isGone(labels)) (this.#get(name) as Gauge).inc(labels, value);
  }

  observe<Name extends NameOf<"histogram">>(name: Name, labels: LabelsOf<Name>, value: number, times = 1): void {
    // Clocks that are set back, and what was never measured.
    if (!Number.isFinite(value) || this.#isGone(labels)) return;
    const one = (this.#get(name) as Histogram).labels(labels as Record<string, string>);
    for (let i = 0; i < times; i++) one.observe(Math.max(0, value));
  }

  /** Takes values of a model again that was removed. */
  admitModel(model: string): void {
    this.#goneModels.delete(model);
  }

  /** Forgets all values of a model that is gone, whose name would stay for ever. What its last requests and workers still tell is not kept. */
  async removeModel(model: string): Promise<void> {
    this.#goneModels.add(model);
    for (const name of metricNames) {
      const own = metricTable[name].labels.find((label) => modelLabels.includes(label));
      if (own === undefined) continue;
      const metric = this.#get(name);
      const { values } = await metric.get();
      for (const { labels } of values) {
        const { le: _, ...rest } = labels as Record<string, string>;
        if (rest[own] === model) metric.remove(rest);
      }
    }
  }

  #isGone(labels: Record<string, string | number>): boolean {
    return this.#goneModels.size > 0 && modelLabels.some((label) => this.#goneModels.has(String(labels[label])));
  }

  #get(name: string): Metric {
    // Every name of the table is registered.
    return this.registry.getSingleMetric(name) as Metric;
  }
}
