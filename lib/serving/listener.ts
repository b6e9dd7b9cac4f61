import type { FastifyInstance, FastifyRequest, onRequestHookHandler } from "fastify";
import type { KeyRing } from "./http/api_keys.js";
import { makeApp, type ServerState } from "./http/app.js";
import { authHook } from "./http/auth.js";
import { corsHook } from "./http/cors.js";
import { hostCheckHook } from "./http/host_check.js";
import { healthPaths } from "./routes/health.js";
import { refuseInItsForm, refuseUrl } from "./routes/refuse.js";
import { type Address, isLoopback } from "./settings/address.js";
import { hasKeys } from "./settings/plan.js";
import type { ServerSettings } from "./settings/table.js";

export interface ListenerOptions {
  values: ServerSettings;
  state: ServerState;
  keys: KeyRing | undefined;
  /** The first of all hooks. */
  onRequest: onRequestHookHandler;
}

/** A listener without routes: who may ask, and what is said to those that ask for nothing that is there. */
export function makeListener(address: Address, { values, state, keys, onRequest }: ListenerOptions): FastifyInstance {
  const app = makeApp(values, state, "isTls" in address && address.isTls, (error, request, reply) => {
    // Fastify runs no hooks where it cannot read the URL.
    onRequest.call(app, request, reply, () => {});
    refuseUrl(error, request, reply);
  });
  app.addHook("onRequest", onRequest);
  if (isLoopback(address) && !hasKeys(values))
    app.addHook("onRequest", hostCheckHook({ allowedHosts: values.allowedHosts, onRefuse: refuseInItsForm }));
  const { allowedOrigins: origins, allowedMethods: methods, allowedHeaders: headers } = values;
  app.addHook("onRequest", corsHook({ origins, methods, headers, onRefuse: refuseInItsForm }));
  if (keys !== undefined) {
    const isOpen = (request: FastifyRequest) => isOpenUrl(request, values);
    app.addHook("onRequest", authHook({ keys, scope: scopeOf, isOpen, onRefuse: refuseInItsForm }));
  }
  return app;
}

/** What a request's key must open. */
function scopeOf({ url }: FastifyRequest): "inference" | "management" | "metrics" {
  if (/^\/metrics(\?|$)/.test(url)) return "metrics";
  return /^\/models(\/|\?|$)/.test(url) && !/^\/models\/[^/?]+\/invoke/.test(url) ? "management" : "inference";
}

/** Probes, the page, and descriptions of the APIs need no key. */
function isOpenUrl({ url, method, routeOptions }: FastifyRequest, { publicMetrics }: ServerSettings): boolean {
  const [path = ""] = url.split("?");
  if (path === "/metrics") return publicMetrics;
  if ((healthPaths as readonly string[]).includes(path) || path.startsWith("/v2/health/")) return true;
  if (path === "/api-description" || path === "/openapi.json" || (path === "/" && method === "OPTIONS")) return true;
  return routeOptions.config !== undefined && (routeOptions.config as { isPage?: boolean }).isPage === true;
}
