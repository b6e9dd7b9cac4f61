/** One measured value. */
export interface Metric {
  /** Such as "PredictionTime". */
  name: string;
  /** A number, or the text of an error. */
  value: number | string;
  /** "ms", "MB", "percent", "count", or a unit of the handler. */
  unit: string;
  /** Id of the request; undefined: the whole batch. */
  requestId: string | undefined;
  /** What tells it from others of its name. */
  dimensions: readonly MetricDimension[];
}

/** What tells a metric from others of its name. */
export interface MetricDimension {
  /** Such as "ModelName". */
  name: string;
  /** Such as the model's name. */
  value: string;
}

/** Maximum number of kept values, so that memory does not grow if nobody takes them. */
const mostKept = 10_000;

/** Collects metrics of a handler, with the methods of TorchServe's `context.metrics` (ts/metrics/metrics_store.py). */
export class Metrics {
  #requestIds: () => Readonly<Record<number, string>> = () => ({});
  #kept: Metric[] = [];

  /** By place in the batch. */
  get requestIds(): Readonly<Record<number, string>> {
    return this.#requestIds();
  }

  set requestIds(ids: Readonly<Record<number, string>>) {
    this.#requestIds = () => ids;
  }

  /** Asks for the ids each time: a context gives those of the batch in which something is measured. */
  followRequestIds(read: () => Readonly<Record<number, string>>): void {
    this.#requestIds = read;
  }

  /** @param idx Index of the request in the batch; undefined: the whole batch. */
  addMetric(
    name: string,
    value: number | string,
    unit: string,
    idx?: number,
    dimensions: readonly MetricDimension[] = [],
  ): void {
    const requestId = idx === undefined ? undefined : this.requestIds[idx];
    if (this.#kept.length >= mostKept) this.#kept.shift();
    this.#kept.push({ name, value, unit, requestId, dimensions });
  }

  /** Counts up by a value. */
  addCounter(name: string, value: number, idx?: number, dimensions?: readonly MetricDimension[]): void {
    this.addMetric(name, value, "count", idx, dimensions);
  }

  /** @param unit "ms" or "s". */
  addTime(name: string, value: number, idx?: number, unit = "ms", dimensions?: readonly MetricDimension[]): void {
    this.addMetric(name, value, unit, idx, dimensions);
  }

  /** @param unit "B", "kB", "MB" or "GB". */
  addSize(name: string, value: number, idx?: number, unit = "MB", dimensions?: readonly MetricDimension[]): void {
    this.addMetric(name, value, unit, idx, dimensions);
  }

  /** Notes a share in percent. */
  addPercent(name: string, value: number, idx?: number, dimensions?: readonly MetricDimension[]): void {
    this.addMetric(name, value, "percent", idx, dimensions);
  }

  /** Notes an error, as text. */
  addError(name: string, value: string, dimensions?: readonly MetricDimension[]): void {
    this.addMetric(name, value, "", undefined, dimensions);
  }

  /** The metrics since the last call, oldest first. */
  take(): Metric[] {
    const taken = this.#kept;
    this.#kept = [];
    return taken;
  }
}
