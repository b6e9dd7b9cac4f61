import type { SettingKind } from "./kinds.js";

/** The topic of a setting: a heading of the documents and of --help. */
export const settingGroups = {
  models: "Models",
  listeners: "Listeners",
  requests: "Requests and shutdown",
  engine: "Engine",
  security: "Security",
  openai: "OpenAI's API",
  logs: "Logs and metrics",
} as const;

/** How a setting is described, whatever its values are. */
export interface SettingDescription {
  group: keyof typeof settingGroups;
  /** Without the dashes, the usual name first. undefined: no flag sets it. */
  flags?: readonly [string, ...string[]];
  /** Key of config.properties, as TorchServe has it. */
  key?: string;
  help: string;
  /** The default in words, where the value does not say it. */
  unsetText?: string;
  /** Never printed. */
  isSecret?: true;
}

/** A row of the table of settings: one setting of the server, from whatever source it comes. */
export interface Setting<T, U> extends SettingDescription {
  kind: SettingKind<T>;
  unset: U;
}

export type AnySetting = Setting<unknown, unknown>;

export function setting<T>(kind: SettingKind<T>, unset: T, rest: SettingDescription): Setting<T, T> {
  return { kind, unset, ...rest };
}

/** A setting that may be unset. */
export function optional<T>(kind: SettingKind<T>, rest: SettingDescription): Setting<T, undefined> {
  return { kind, unset: undefined, ...rest };
}

/** The environment variables of a setting: ours, then TorchServe's. */
export function variablesOf(name: string, { flags, key }: SettingDescription): { own: string; torchServe?: string } {
  const flag = flags?.[0] ?? name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  const own = `SHARDSPEED_${flag.replaceAll("-", "_").toUpperCase()}`;
  return key === undefined ? { own } : { own, torchServe: `TS_${key.toUpperCase()}` };
}
