import { ShardspeedError } from "../base/errors.js";
import type { ResolvedSettings } from "./settings/resolved.js";

/**
 * Serves models until the process is told to end.
 *
 * @throws ShardspeedError ERR_CONFIG: not yet.
 */
export async function startServer(_settings: ResolvedSettings): Promise<void> {
  throw new ShardspeedError(
    "ERR_CONFIG",
    "The server is not there yet: --print-config shows what it would be started with",
  );
}
