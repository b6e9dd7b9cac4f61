import type { FastifyInstance } from "fastify";
import { readMetricNames, type ServerMetrics } from "../metrics/server_metrics.js";
import type { ModelRegistry } from "../registry.js";

/** /metrics: all of them, or with `?name[]=` some, as text of Prometheus or of OpenMetrics. */
export async function metricsRoutes(
  app: FastifyInstance,
  { metrics, registry }: { metrics: ServerMetrics; registry: ModelRegistry },
): Promise<void> {
  app.get("/metrics", async ({ url, headers }, reply) => {
    for (const { pool } of registry.all())
      metrics.queueDepth(pool.name, pool.waitingRequests + pool.waitingSequences, pool.version);
    const names = readMetricNames(new URLSearchParams(url.split("?").slice(1).join("?")));
    const { contentType, body } = await metrics.render(headers.accept, names);
    return reply.header("content-type", contentType).send(Buffer.from(body));
  });
}
