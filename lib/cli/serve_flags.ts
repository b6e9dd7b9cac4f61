import { type Command, Option } from "commander";
import { settingGroups } from "../serving/settings/row.js";
import {
  flagsWithoutSetting,
  type SettingName,
  settingNames,
  settingOf,
  type settings,
} from "../serving/settings/table.js";

/** Settings of the server as flags of the command: those of the table, and no others. */
export function addServeFlags(command: Command): void {
  for (const name of settingNames) {
    const { flags = [], kind, group } = settingOf(name);
    for (const [i, flag] of flags.entries()) {
      const option = new Option(`--${flag}${kind.placeholder}`, describe(name)).helpGroup(`${settingGroups[group]}:`);
      command.addOption(i === 0 ? option : option.hideHelp());
    }
  }
  for (const [flag, help] of Object.entries(flagsWithoutSetting))
    command.addOption(new Option(`--${flag}`, help).helpGroup("Other:"));
  // As torchserve has it in full.
  command.addOption(new Option("--no-config-snapshots").hideHelp());
}

function describe(name: SettingName): string {
  const { help, flags: [, ...aliases] = [""], kind, unset, unsetText } = settingOf(name);
  const shown = unset === undefined || unset === false || unset === "" ? "" : (kind.show?.(unset) ?? String(unset));
  const words = unsetText ?? shown;
  const also = aliases.map((alias) => `--${alias}`).join(", ");
  return [help, ...(words === "" ? [] : [`(default: ${words})`]), ...(also === "" ? [] : [`(also ${also})`])]
    .join(" ")
    .replaceAll("`", "");
}

/** The texts of the flags that were given. */
export function readServeFlags(command: Command): Partial<Record<keyof typeof settings, string>> {
  const texts: Partial<Record<SettingName, string>> = {};
  for (const name of settingNames) {
    const given = (settingOf(name).flags ?? [])
      .map((flag) => readFlag(command, flag))
      .find((text) => text !== undefined);
    if (given !== undefined) texts[name] = given;
  }
  return texts;
}

/** --no-access-log-for is no "not --access-log-for", and --no-prefix-cache sets something; but commander stores both as the opposite of another flag. */
function readFlag(command: Command, flag: string): string | undefined {
  const option = command.options.find(({ long }) => long === `--${flag}`);
  const attribute = option?.attributeName();
  if (attribute === undefined || command.getOptionValueSource(attribute) !== "cli") return undefined;
  const value: unknown = command.getOptionValue(attribute);
  if (option?.negate && value === false) return "true";
  return Array.isArray(value) ? value.join(",") : String(value);
}
