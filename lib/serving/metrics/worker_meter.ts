import type { MetricSet } from "./metric_set.js";

/** Memory of a rank, as the engine reports it. */
export interface RankMemoryBytes {
  weightBytes: number;
  kvCacheBytes: number;
  activationBytes: number;
}

/** What a worker reports of its engine from time to time. All counts are since its start. */
export interface WorkerPulse {
  running: number;
  waiting: number;
  kvPagesTotal: number;
  kvPagesFree: number;
  steps: number;
  promptTokens: number;
  generatedTokens: number;
  preemptions: number;
  /** Milliseconds in sums over ranks. */
  groupMs: number;
  memory: readonly RankMemoryBytes[];
  /** Of the latest step, in milliseconds since 1970. */
  lastStepAtMs?: number;
  prefixCacheQueries?: number;
  prefixCacheHits?: number;
  drafts?: number;
  draftTokens?: number;
  acceptedTokens?: number;
  acceptedTokensByPosition?: readonly number[];
}

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
  #pulse: WorkerPulse | undefined;

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
  get pulse(): WorkerPulse | undefined {
    return this.#pulse;
  }

  /** A report. Counters get what was added since the last one. */
  report(pulse: WorkerPulse): void {
    const labels = { model_name: this.model, engine: this.engine };
    const metrics = this.#metrics;
    this.#pulse = pulse;
    const steps = this.#added("steps", pulse.steps);
    const tokens = this.#added("stepTokens", pulse.promptTokens + pulse.generatedTokens);
    if (steps > 0) metrics.observe("vllm:iteration_tokens_total", labels, tokens / steps, steps);
    metrics.count("shardspeed_engine_steps_total", { model: this.model }, steps);
    metrics.count("vllm:num_preemptions_total", labels, this.#added("preemptions", pulse.preemptions));
    const wait = this.#added("groupMs", pulse.groupMs) / 1000;
    metrics.count("shardspeed_rank_wait_seconds_total", { model: this.model, rank: 0 }, wait);
    if (pulse.lastStepAtMs !== undefined)
      metrics.set("shardspeed_last_step_timestamp_seconds", { model: this.model }, pulse.lastStepAtMs / 1000);
    this.#countCaches(pulse, labels);
    this.#onChange();
  }

  /** The worker is gone: what it held is free, and nothing that it counted is lost. */
  end(): void {
    this.#pulse = undefined;
    this.#onChange();
  }

  #countCaches(pulse: WorkerPulse, labels: { model_name: string; engine: number }): void {
    const metrics = this.#metrics;
    metrics.count("vllm:prefix_cache_queries_total", labels, this.#added("queries", pulse.prefixCacheQueries));
    metrics.count("vllm:prefix_cache_hits_total", labels, this.#added("hits", pulse.prefixCacheHits));
    metrics.count("vllm:spec_decode_num_drafts_total", labels, this.#added("drafts", pulse.drafts));
    metrics.count("vllm:spec_decode_num_draft_tokens_total", labels, this.#added("draftTokens", pulse.draftTokens));
    metrics.count("vllm:spec_decode_num_accepted_tokens_total", labels, this.#added("accepted", pulse.acceptedTokens));
    for (const [position, total] of (pulse.acceptedTokensByPosition ?? []).entries()) {
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
