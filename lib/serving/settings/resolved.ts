import type { Address } from "./address.js";
import type { ServerSettings, SettingName } from "./table.js";

/** Where the value of a setting is from. */
export interface Origin {
  source: "flag" | "environment" | "config.properties" | "option" | "default";
  /** "--port", "SHARDSPEED_PORT", "config.properties:3"; empty for a default. */
  place: string;
}

export type Origins = { readonly [Name in SettingName]: Origin };

/** The settings of a server, complete and checked. */
export interface ResolvedSettings {
  readonly values: ServerSettings;
  readonly origins: Origins;
  readonly listeners: Listeners;
  /** What may not be meant, a line each. */
  readonly warnings: readonly string[];
}

/** Where each API is. Listeners of the same address are one. */
export interface Listeners {
  inference: Address;
  /** undefined: the management API is not served. */
  management: Address | undefined;
  metrics: Address;
}
