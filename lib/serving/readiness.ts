import type { ServerState } from "./http/app.js";
import type { ModelPool } from "./model_pool.js";
import type { ModelRegistry, RegisteredModel } from "./registry.js";

/** How one model is doing. */
export interface ModelHealth {
  name: string;
  version: string;
  state: "loading" | "ready" | "failed" | "stalled" | "off";
  /** Of its weights, where it is being loaded. */
  loadedBytes?: number;
  totalBytes?: number;
  /** Why it failed. */
  reason?: string;
}

export interface Readiness {
  ready: boolean;
  draining: boolean;
  models: ModelHealth[];
}

/**
 * Tells whether a server can answer. It never computes anything for that: a worker that has work must have made progress lately, which its pulses
 * say by themselves.
 */
export class ReadinessProbe {
  readonly #registry: ModelRegistry;
  readonly #state: ServerState;
  readonly #stallMs: number;
  readonly #progress = new WeakMap<ModelPool, { steps: number; at: number }>();

  constructor(registry: ModelRegistry, state: ServerState, stallMs: number) {
    this.#registry = registry;
    this.#state = state;
    this.#stallMs = stallMs;
  }

  look(): Readiness {
    const models = this.#registry.defaults().map((registered) => this.#lookAt(registered));
    const { draining, registering } = this.#state;
    const ready = !draining && !registering && models.every(({ state }) => state === "ready" || state === "off");
    return { ready, draining, models };
  }

  #lookAt({ pool, minWorkers }: RegisteredModel): ModelHealth {
    const { name, version, state, progress } = pool;
    const health = { name, version, state };
    // Somebody wants it to have no workers.
    if (state === "failed" && minWorkers === 0) return { ...health, state: "off" };
    if (state === "loading" && progress !== undefined && progress.phase === "load")
      return { ...health, loadedBytes: progress.loadedBytes, totalBytes: progress.totalBytes };
    if (state === "failed") {
      const reason = pool.replicas.all.find(({ error }) => error !== undefined)?.error?.message;
      return { ...health, ...(reason === undefined ? {} : { reason }) };
    }
    return this.#hasStalled(pool) ? { ...health, state: "stalled" } : health;
  }

  /** Whether there is work for an engine and none of its steps has ended for a long time. */
  #hasStalled(pool: ModelPool): boolean {
    const pulses = pool.replicas.ready.flatMap(({ pulse }) => pulse?.engine ?? []);
    const busy = pulses.some(({ requests }) => requests.running > 0);
    const steps = pulses.reduce((sum, pulse) => sum + pulse.steps, 0);
    const now = performance.now();
    const last = this.#progress.get(pool);
    if (!busy || last === undefined || last.steps !== steps) {
      this.#progress.set(pool, { steps, at: now });
      return false;
    }
    return now - last.at > this.#stallMs;
  }
}
