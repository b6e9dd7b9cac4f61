import type { FastifyInstance } from "fastify";
import { readPackageInfo } from "../../base/package_info.js";
import type { ReadinessProbe } from "../readiness.js";

/** Routes that ask for no key, on every listener. */
export const healthPaths = ["/live", "/ready", "/health", "/ping", "/version"] as const;

export interface HealthOptions {
  probe: ReadinessProbe;
  /** Sequences and requests that are queued or worked on. */
  pending(): number;
}

/**
 * Probes: /live answers as long as the process does; /ready (and /health, as vLLM's) fails while models load, when one has failed, when work makes no
 * progress, and while the server drains. None of them asks an engine for anything.
 */
export async function healthRoutes(app: FastifyInstance, { probe, pending }: HealthOptions): Promise<void> {
  app.get("/live", async () => ({ live: true }));
  for (const path of ["/ready", "/health"]) {
    app.get(path, async (_, reply) => {
      const readiness = probe.look();
      if (!readiness.ready) reply.code(503).header("retry-after", "2");
      return { status: readiness.ready ? "ok" : describe(readiness.draining), ...readiness };
    });
  }
  app.get("/version", async () => ({ version: readPackageInfo().version }));
  app.get("/load", async () => ({ server_load: pending() }));
}

function describe(draining: boolean): string {
  return draining ? "shutting down" : "not ready";
}
