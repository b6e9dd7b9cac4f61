import path from "node:path";
import { ShardspeedError } from "../../base/errors.js";
import { nearestKey } from "../../base/nearest.js";
import { fileLimits, readRegularFile } from "../../base/regular_file.js";
import { escapeControls, truncate } from "../../base/text.js";
import { interpolate, type Property, parseProperties } from "./properties.js";
import { settingNames, settingOf } from "./table.js";
import { ignoredKeys, readerKeys } from "./torchserve_keys.js";

/** A config.properties as it counts. */
export interface ConfigFile {
  file: string;
  /** Keys of the table of settings. */
  properties: readonly Property[];
  /** TorchServe's variables TS_NAME count too. */
  readsVariables: boolean;
  /** TS_ALLOWED_URLS among them. */
  readsAllowedUrls: boolean;
  warnings: readonly string[];
}

/**
 * Reads TorchServe's config.properties; undefined where there is no such file.
 *
 * @throws ShardspeedError ERR_CONFIG for a file that cannot be read or is wrong; ERR_ABORTED.
 */
export async function readConfigFile(file: string, environment: NodeJS.ProcessEnv): Promise<ConfigFile | undefined> {
  const bytes = await readRegularFile(file, { code: "ERR_CONFIG", limitBytes: fileLimits.properties });
  return bytes === undefined ? undefined : parseConfigFile(decode(bytes), path.basename(file), environment);
}

/** Java reads Latin-1, people write UTF-8: what is no UTF-8 is Latin-1. */
function decode(bytes: Buffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return bytes.toString("latin1");
  }
}

/** @throws ShardspeedError ERR_CONFIG */
export function parseConfigFile(text: string, file: string, environment: NodeJS.ProcessEnv): ConfigFile {
  const counted = new Map<string, Property>();
  const warnings = new Warnings(file);
  for (const property of interpolate(parseProperties(text, file), environment, file)) {
    const earlier = counted.get(property.key);
    if (earlier !== undefined) warnings.add(property, () => `is in line ${earlier.line} too: this line counts`);
    counted.set(property.key, property);
  }
  const known = new Set(settingNames.flatMap((name) => settingOf(name).key ?? []));
  const properties = [...counted.values()].filter((property) => {
    if (known.has(property.key)) return true;
    const ignored = ignoredKeys.get(property.key);
    if (ignored?.fine?.includes(property.value.trim().toLowerCase())) return false;
    if (ignored !== undefined) warnings.add(property, () => `has no effect: ${ignored.reason}`);
    else if (!isReaderKey(property.key))
      warnings.add(property, () => `is no key of TorchServe's. ${advise(property.key, known)}`);
    return false;
  });
  const isOn = (key: (typeof readerKeys)[number]) => counted.get(key)?.value.trim().toLowerCase() === "true";
  return {
    file,
    properties,
    readsVariables: isOn("enable_envvars_config"),
    readsAllowedUrls: isOn("use_env_allowed_urls"),
    warnings: warnings.lines(),
  };
}

function isReaderKey(key: string): boolean {
  return (readerKeys as readonly string[]).includes(key);
}

function advise(key: string, known: Iterable<string>): string {
  const near = nearestKey(key.slice(0, 80), [...known, ...readerKeys, ...ignoredKeys.keys()]);
  return near === undefined ? "It is ignored." : `Did you mean ${near}?`;
}

/** Some are shown: a file that is something else altogether has thousands, and to find the nearest names takes time. */
const mostShown = 20;

class Warnings {
  readonly #lines: string[] = [];
  #left = 0;
  constructor(readonly file: string) {}

  add({ key, line }: Property, describe: () => string): void {
    if (this.#lines.length === mostShown) {
      this.#left += 1;
      return;
    }
    const shown = /^[\w.-]{1,80}$/.test(key) ? key : JSON.stringify(truncate(key));
    this.#lines.push(escapeControls(`${this.file}:${line}: ${shown} ${describe()}`));
  }

  lines(): string[] {
    return this.#left === 0 ? this.#lines : [...this.#lines, `${this.file}: ${this.#left} more warnings`];
  }
}

/** @throws ShardspeedError ERR_CONFIG: a file that was named must be there. */
export function noConfigFile(file: string): ShardspeedError {
  return new ShardspeedError("ERR_CONFIG", `There is no file ${escapeControls(path.resolve(file))}`);
}
