import type { ServerMetrics } from "./metrics/server_metrics.js";
import type { WorkerMeter } from "./metrics/worker_meter.js";
import type { PoolObserver } from "./model_pool.js";
import type { Replica } from "./replicas.js";

/** Tells the metrics what becomes of a model's requests and workers. */
export function observePool(
  metrics: ServerMetrics,
  { name, version }: { name: string; version: string },
): PoolObserver {
  const meters = new Map<string, WorkerMeter>();
  /** A worker's place among those of the model: its successor has it too. One that is free is taken again, so that labels do not grow. */
  const places: (string | undefined)[] = [];
  const placeOf = ({ id }: Replica) => {
    const own = places.indexOf(id);
    if (own >= 0) return own;
    const free = places.indexOf(undefined);
    const place = free < 0 ? places.length : free;
    places[place] = id;
    return place;
  };
  return {
    generationStarted(start) {
      const meter = metrics.generationStarted({ model: name, ...start });
      return {
        dispatched: (replica, at) => meter.dispatched(placeOf(replica), at),
        prompt: (tokens) => meter.prompt(tokens),
        tokens: (count, at) => meter.tokens(count, at),
        finished: (reason, at) => meter.finished(reason, at),
      };
    },
    workerStateChanged(replica) {
      const states = {
        starting: "loading",
        ready: "ready",
        waiting: "restarting",
        failed: "failed",
        stopping: "stopping",
      };
      metrics.workerState(name, replica.id, states[replica.state] as "loading");
    },
    workerReady(replica) {
      const place = placeOf(replica);
      meters.get(replica.id)?.end();
      meters.set(replica.id, metrics.workerStarted(name, place));
      metrics.modelLoaded(name, {
        name: `W-${replica.id}-${name}_${version}`,
        engine: place,
        seconds: (Date.now() - replica.startedAt) / 1000,
      });
    },
    workerPulse(replica, { engine, measures }) {
      if (measures !== undefined) metrics.handlerMeasured(name, measures);
      if (engine !== undefined) meters.get(replica.id)?.report(engine);
    },
    workerDied(replica, _error, reason) {
      meters.get(replica.id)?.end();
      meters.delete(replica.id);
      metrics.workerRestarted(name, reason);
    },
    workerLeft(replica) {
      meters.get(replica.id)?.end();
      meters.delete(replica.id);
      const place = places.indexOf(replica.id);
      if (place >= 0) places[place] = undefined;
      metrics.workerState(name, replica.id, undefined);
    },
    handlerRequestFinished: ({ queuedMs, totalMs, version: asked }) =>
      metrics.handlerRequestFinished({ model: name, version: asked, queueMs: queuedMs, totalMs }),
    rejected({ code }) {
      const reasons = {
        queue_full: "queue_full",
        model_loading: "loading",
        shutting_down: "draining",
        queue_timeout: "timeout",
        request_timeout: "timeout",
      } as const;
      if (Object.hasOwn(reasons, code)) metrics.rejected(reasons[code as keyof typeof reasons]);
    },
  };
}
