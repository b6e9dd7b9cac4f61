import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { resolveSettings, type SettingSources } from "../../../dist/serving/settings/resolve.js";
import type { ResolvedSettings } from "../../../dist/serving/settings/resolved.js";

/** Settings with a config.properties of this text, of a server for a model that is never looked at. */
export async function resolveWith(
  properties: string,
  { flags = { modelStore: "store" }, environment = {} }: Omit<SettingSources, "folder"> = {},
): Promise<ResolvedSettings> {
  const folder = mkdtempSync(path.join(tmpdir(), "shardspeed-settings-"));
  try {
    if (properties !== "") writeFileSync(path.join(folder, "config.properties"), properties);
    return await resolveSettings({ flags, environment, folder });
  } finally {
    rmSync(folder, { recursive: true });
  }
}
