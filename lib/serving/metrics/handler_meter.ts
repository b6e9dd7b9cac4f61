import { Counter, Gauge, type Registry } from "prom-client";
import type { HandlerMeasure } from "../worker/handler_metrics.js";

/** Handlers may make a name of anything: more are not kept. */
const mostNames = 100;
const mostSeries = 100;
const namePattern = /^[a-zA-Z_][a-zA-Z0-9_]{0,99}$/;
const mostValueLength = 100;

interface Known {
  metric: Counter | Gauge;
  type: HandlerMeasure["type"];
  labels: readonly string[];
  /** Labels of each series, by their text. */
  series: Map<string, Record<string, string>>;
}

/** Metrics that handlers measure themselves, by their own names. As TorchServe's, they have the labels ModelName, Level and Hostname too. */
export class HandlerMeter {
  readonly #registry: Registry;
  readonly #hostname: string;
  readonly #known = new Map<string, Known>();

  constructor(registry: Registry, hostname: string) {
    this.#registry = registry;
    this.#hostname = hostname;
  }

  /** What has no place among the metrics is left out: a name of the server's own, other labels than before, one too many. */
  take(model: string, measures: readonly HandlerMeasure[]): void {
    for (const measure of measures) this.#takeOne(model, measure);
  }

  removeModel(model: string): void {
    for (const [name, { metric, series }] of this.#known) {
      for (const [key, labels] of series) {
        if (labels.ModelName !== model) continue;
        metric.remove(labels);
        series.delete(key);
      }
      if (series.size > 0) continue;
      this.#registry.removeSingleMetric(name);
      this.#known.delete(name);
    }
  }

  #takeOne(model: string, { name, type, value, dimensions }: HandlerMeasure): void {
    if (type === "counter" && value < 0) return;
    const own = dimensions.map((one) => [one.name, one.value.slice(0, mostValueLength)]);
    const labels: Record<string, string> = {
      ...Object.fromEntries(own),
      ...{ ModelName: model, Level: "Model", Hostname: this.#hostname },
    };
    const known = this.#known.get(name) ?? this.#add(name, type, Object.keys(labels));
    if (known === undefined || known.type !== type) return;
    const names = Object.keys(labels);
    if (names.length !== known.labels.length || !names.every((label) => known.labels.includes(label))) return;
    const key = JSON.stringify(known.labels.map((label) => labels[label]));
    if (!known.series.has(key)) {
      if (known.series.size >= mostSeries) return;
      known.series.set(key, labels);
    }
    if (known.metric instanceof Counter) known.metric.inc(labels, value);
    else known.metric.set(labels, value);
  }

  #add(name: string, type: HandlerMeasure["type"], labels: string[]): Known | undefined {
    if (!namePattern.test(name) || labels.some((label) => !namePattern.test(label))) return undefined;
    if (this.#known.size >= mostNames || this.#registry.getSingleMetric(name) !== undefined) return undefined;
    const options = { name, help: "Measured by a handler.", labelNames: labels, registers: [this.#registry] };
    const metric = type === "counter" ? new Counter(options) : new Gauge(options);
    const known: Known = { metric, type, labels, series: new Map() };
    this.#known.set(name, known);
    return known;
  }
}
