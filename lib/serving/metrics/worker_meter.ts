import type { EngineStats } from "../../engine/engine.js";
import type { MetricSet } from "./metric_set.js";

/** What a worker reports of its engine from time to time: `engine.stats()`. All counts are since its start. */
export type WorkerReport = EngineStats;

type Counted =
  | "steps"
  | "preemptions"
  | "groupMs"
  | "stepTokens"
  | "queries"
  | "hits"
  | "drafts"
  | "draftTokens"
  | "accepted";

/** One life of a worker: a process that was started anew is another one, whose counts begin at zero. */
export class WorkerMeter {
  readonly #metrics: MetricSet;
  readonly #onChange: () => void;
  readonly #counted = new Map<string, number>();
  #latest: WorkerReport | undefined;

  /** @param engine Its place among the workers of the model, from 0: the successor of one that died has the same. */
  constructor(
    metrics: MetricSet,
    readonly model: string,
    readonly engine: number,
    onChange: () => void,
  ) {
    this.#metrics = metrics;
    this.#onChange = onChange;
  }

  /** The latest report; undefined before the first one and after the end. */
  get latest(): WorkerReport | undefined {
    return this.#latest;
  }

  /** A report, of a moment in milliseconds since 1970. Counters get what was added since the last one. */
  report(report: WorkerReport, at = Date.now()): void {
    const labels = { model_name: this.model, engine: this.engine };
    const metrics = this.#metrics;
    this.#latest = report;
    const steps = this.#added("steps", report.steps);
    const tokens = this.#added("stepTokens", report.tokens.prompt + report.tokens.generated);
    if (steps > 0) metrics.observe("vllm:iteration_tokens_total", labels, tokens / steps, steps);
    metrics.count("shardspeed_engine_steps_total", { model: this.model }, steps);
    metrics.count("vllm:num_preemptions_total", labels, this.#added("preemptions", report.preemptions));
    const wait = this.#added("groupMs", report.timings.allReduceMs) / 1000;
    metrics.count("shardspeed_rank_wait_seconds_total", { model: this.model, rank: 0 }, wait);
    if (steps > 0) metrics.set("shardspeed_last_step_timestamp_seconds", { model: this.model }, at / 1000);
    this.#countCaches(report, labels);
    this.#onChange();
  }

  /** The worker is gone: what it held is free, and nothing that it counted is lost. */
  end(): void {
    this.#latest = undefined;
    this.#onChange();
  }

  #countCaches(report: WorkerReport, labels: { model_name: string; engine: number }): void {
    const metrics = this.#metrics;
    metrics.count("vllm:prefix_cache_queries_total", labels, this.#added("queries", report.prefixCache.queries));
    metrics.count("vllm:prefix_cache_hits_total", labels, this.#added("hits", report.prefixCache.hits));
    const { drafts, draftTokens, acceptedTokens, acceptedAt } = report.speculation;
    metrics.count("vllm:spec_decode_num_drafts_total", labels, this.#added("drafts", drafts));
    metrics.count("vllm:spec_decode_num_draft_tokens_total", labels, this.#added("draftTokens", draftTokens));
    metrics.count("vllm:spec_decode_num_accepted_tokens_total", labels, this.#added("accepted", acceptedTokens));
    for (const [position, total] of acceptedAt.entries()) {
      const added = this.#added(`accepted ${position}`, total);
      metrics.count("vllm:spec_decode_num_accepted_tokens_per_pos_total", { ...labels, position }, added);
    }
  }

  /** A count that fell belongs to reports in a wrong order: it adds nothing. */
  #added(name: Counted | `accepted ${number}`, total = 0): number {
    const before = this.#counted.get(name) ?? 0;
    if (!(total > before)) return 0;
    this.#counted.set(name, total);
    return total - before;
  }
}
