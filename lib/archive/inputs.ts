import type { Stats } from "node:fs";
import { readdir, realpath, stat } from "node:fs/promises";
import path from "node:path";
import type { Logger } from "../base/logger.js";
import { kindOfFile, systemCode } from "../base/system_errors.js";
import { whyNotLoadable } from "../handler/typescript.js";
import { whyBadEntryName } from "./entry_name.js";
import { archiveError, checkAborted, plainArchiveError, toArchiveError } from "./errors.js";
import { expandGlob, isGlob } from "./glob.js";
import { findHandlerFile } from "./handler_file.js";
import { manifestName } from "./manifest.js";
import type { ResolvedPackOptions } from "./pack_options.js";

/** A file that goes into an archive. */
export interface Input {
  /** In the archive, with "/" between folders. */
  name: string;
  /** Where it lies. */
  source: string;
  bytes: number;
}

/** Folders that stay out, besides hidden ones (model_packaging_utils.py). */
const unwantedFolders: readonly string[] = ["__MACOSX", "__pycache__"];

/**
 * The files that the options name, sorted by name: what torch-model-archiver copies into its staging folder. Nothing is
 * copied here. `target` is what will be made; it does not become part of itself where it lies in a folder of extra files.
 *
 * @throws ERR_ARCHIVE for a file that is missing or none, and for two files of one name.
 */
export async function collectInputs(options: ResolvedPackOptions, target: string): Promise<Input[]> {
  const collector = new Collector(path.resolve(target), options.logger, options.signal);
  if (options.modelFile !== undefined) await collector.addNamedFile(options.modelFile);
  if (options.serializedFile !== undefined) await collector.addNamedFile(options.serializedFile);
  const handler = await findHandlerFile(options.handler, options.runtime);
  if (handler !== undefined) {
    await collector.addNamedFile(handler);
    const reason = whyNotLoadable(handler);
    // Another Node may serve it.
    if (reason !== undefined) options.logger.warn(`The handler is ${handler}, and ${reason}`);
  }
  for (const extra of options.extraFiles) await collector.addExtra(extra);
  if (options.requirementsFile !== undefined) await collector.addNamedFile(options.requirementsFile);
  if (options.configFile !== undefined) await collector.addNamedFile(options.configFile);
  return collector.finish();
}

class Collector {
  readonly #inputs = new Map<string, Input>();
  readonly #target: string;
  readonly #logger: Logger;
  readonly #signal: AbortSignal | undefined;

  constructor(target: string, logger: Logger, signal: AbortSignal | undefined) {
    this.#target = target;
    this.#logger = logger;
    this.#signal = signal;
  }

  /** A file that an option names, which goes to the root. */
  async addNamedFile(source: string): Promise<void> {
    const stats = await statInput(source, `No such file or directory: '${source}'`);
    if (!stats.isFile()) throw archiveError(source, `is ${kindOfFile(stats)}, expected a regular file`);
    await this.#add(path.basename(source), source, stats);
  }

  /** A file, a folder whose contents go to the root, or a pattern for some of these. */
  async addExtra(extra: string): Promise<void> {
    const missing = `File does not exist: ${extra}`;
    const literal = await statInput(extra, missing).catch((error: unknown) => {
      if (isGlob(extra)) return undefined;
      throw error;
    });
    if (literal !== undefined) {
      await this.#addFound(extra, literal);
      return;
    }
    const matches = (await expandGlob(extra)).filter((match) => path.resolve(match) !== this.#target);
    if (matches.length === 0) this.#logger.warn(`Given wildcard pattern did not match any file: ${extra}`);
    for (const match of matches) await this.#addFound(match, await statInput(match));
  }

  /** All files, sorted. */
  finish(): Input[] {
    for (const { name, source } of this.#inputs.values()) {
      for (let end = name.lastIndexOf("/"); end > 0; end = name.lastIndexOf("/", end - 1)) {
        const inside = this.#inputs.get(name.slice(0, end));
        if (inside !== undefined) throw conflict(inside.name, inside.source, `the folder that ${source} lies in`);
      }
    }
    // By code units: the same on every machine, whatever its locale.
    return [...this.#inputs.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  async #addFound(source: string, stats: Stats): Promise<void> {
    if (stats.isDirectory()) await this.#addContents(source, "", []);
    else await this.#add(path.basename(source), source, stats);
  }

  async #addContents(folder: string, prefix: string, ancestors: readonly string[]): Promise<void> {
    checkAborted(this.#signal);
    const real = await realpath(folder).catch(failAs(folder));
    if (ancestors.includes(real)) throw archiveError(folder, "is a link to a folder that it lies in");
    const names = await readdir(folder).catch(failAs(folder));
    for (const name of names.sort()) {
      const source = path.join(folder, name);
      if (path.resolve(source) === this.#target) continue;
      const stats = await statInput(source);
      if (!stats.isDirectory()) await this.#add(prefix + name, source, stats);
      else if (!name.startsWith(".") && !unwantedFolders.includes(name)) {
        await this.#addContents(source, `${prefix}${name}/`, [...ancestors, real]);
      }
    }
  }

  async #add(name: string, source: string, stats: Stats): Promise<void> {
    if (!stats.isFile()) throw archiveError(source, `is ${kindOfFile(stats)}, expected a regular file or a folder`);
    const reason = whyBadEntryName(name);
    if (reason !== undefined) throw archiveError(source, `cannot stand in an archive: its name ${reason}`);
    if (name === manifestName) {
      this.#logger.warn(`${source} is left out: the archive gets a manifest of its own`);
      return;
    }
    const earlier = this.#inputs.get(name);
    // The handler often lies in a folder of extra files.
    if (earlier !== undefined && (await isSameFile(earlier.source, source))) return;
    if (earlier !== undefined) throw conflict(name, earlier.source, source);
    this.#inputs.set(name, { name, source, bytes: stats.size });
  }
}

function conflict(name: string, one: string, other: string) {
  return plainArchiveError(
    `Two files would have the name ${name} in the archive: ${one} and ${other}. Rename one or leave it out`,
  );
}

/** What a path leads to, links followed. `missing` is what to say where there is nothing. */
async function statInput(source: string, missing?: string): Promise<Stats> {
  try {
    return await stat(source);
  } catch (error) {
    if (missing !== undefined && systemCode(error) === "ENOENT") throw plainArchiveError(missing, error);
    throw toArchiveError(source, error);
  }
}

async function isSameFile(one: string, other: string): Promise<boolean> {
  const [first, second] = await Promise.all([one, other].map((file) => realpath(file).catch(failAs(file))));
  return first === second;
}

function failAs(file: string): (error: unknown) => never {
  return (error) => {
    throw toArchiveError(file, error);
  };
}
