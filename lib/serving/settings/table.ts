import { engineRows, logRows, openAiRows, securityRows } from "./model_rows.js";
import type { AnySetting, Setting } from "./row.js";
import { listenerRows, modelRows, requestRows } from "./server_rows.js";

/** Every setting of the server, by the name that it has in the code. docs/serving-settings.md has the same table. */
export const settings = {
  ...modelRows,
  ...listenerRows,
  ...requestRows,
  ...engineRows,
  ...securityRows,
  ...openAiRows,
  ...logRows,
} as const;

export type SettingName = keyof typeof settings;

/** The values of all settings. */
export type ServerSettings = {
  readonly [Name in SettingName]: (typeof settings)[Name] extends Setting<infer T, infer U> ? T | U : never;
};

export const settingNames = Object.keys(settings) as SettingName[];

/** A row without the type of its values, for what treats all rows alike. */
export function settingOf(name: SettingName): AnySetting {
  return settings[name] as unknown as AnySetting;
}

/** Flags of the command that set nothing. */
export const flagsWithoutSetting = {
  "print-config": "print the effective configuration, and the source of each value, and end",
  "enable-prefix-caching": "no effect: prompts that begin alike share what was computed of them anyway",
  start: "no effect: the command always starts the server",
  foreground: "no effect: the server always runs in the foreground",
  ncs: "no effect: no snapshots of the configuration are written (also --no-config-snapshots)",
} as const;
