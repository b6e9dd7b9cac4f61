import { escapeControls } from "../../base/text.js";
import { showAddress } from "./address.js";
import type { Origin, ResolvedSettings } from "./resolved.js";
import { settingNames, settingOf } from "./table.js";

/** A setting as it counts, for people and programs. */
export interface EffectiveSetting {
  name: string;
  /** null: unset. Of secrets only whether there is one. */
  value: unknown;
  source: Origin["source"];
  place: string;
}

/** All settings with their sources, without secrets. */
export function effectiveConfiguration({ values, origins }: ResolvedSettings): EffectiveSetting[] {
  return settingNames.map((name) => {
    const value: unknown = values[name];
    return {
      name,
      value: settingOf(name).isSecret && value !== undefined ? "(set)" : (value ?? null),
      ...origins[name],
    };
  });
}

/** The same as lines: "port = 8000 (--port)". */
export function describeConfiguration(resolved: ResolvedSettings): string {
  const { inference, management, metrics } = resolved.listeners;
  const rows = effectiveConfiguration(resolved).map(({ name, value, source, place }) => {
    const row = settingOf(name as (typeof settingNames)[number]);
    const isShown = value !== null && !row.isSecret;
    const shown = isShown ? (row.kind.show?.(value) ?? JSON.stringify(value)) : (value ?? "(unset)");
    const unset = source === "default" && row.unsetText !== undefined ? `: ${row.unsetText}` : "";
    return `${name} = ${shown || "(none)"} (${place || source}${unset})`;
  });
  const listeners = [
    `inference listener: ${showAddress(inference)}`,
    `management listener: ${management === undefined ? "none" : showAddress(management)}`,
    `metrics listener: ${showAddress(metrics)}`,
  ];
  return `${[...rows, ...listeners].map(escapeControls).join("\n")}\n`;
}
