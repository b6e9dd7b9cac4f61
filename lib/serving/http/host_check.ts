import { isIP } from "node:net";
import type { onRequestHookHandler } from "fastify";
import { isLoopbackHost } from "../settings/address.js";
import type { OnRefuse } from "./refusal.js";

export interface HostCheckOptions {
  /** Further names, such as that of a proxy on this machine. */
  allowedHosts: readonly string[];
  onRefuse: OnRefuse;
}

/**
 * A hook for a listener that only this machine reaches and that asks for no key. A page may give its own name the address 127.0.0.1 (DNS rebinding) and is
 * then of the same origin as the server; but the name stays in the Host header. Names of this machine and addresses are no page's.
 */
export function hostCheckHook({ allowedHosts, onRefuse }: HostCheckOptions): onRequestHookHandler {
  const allowed = new Set(allowedHosts.map((host) => host.toLowerCase()));
  return (request, reply, done) => {
    const name = nameIn(request.headers.host ?? "");
    // Browsers always send it.
    if (name === "" || isLoopbackHost(name) || isIP(name) !== 0 || allowed.has(name) || allowed.has("*")) return done();
    onRefuse(reply, 403, "host_not_allowed", "This host name is not the server's: --allowed-hosts.");
  };
}

/** "[::1]:8080" is "::1", "Localhost.:80" is "localhost". */
function nameIn(host: string): string {
  const bracketed = /^\[([^\]]*)\]/.exec(host)?.[1];
  return (bracketed ?? host.replace(/:\d*$/, "")).replace(/\.$/, "").toLowerCase();
}
