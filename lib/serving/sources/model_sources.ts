import { randomBytes } from "node:crypto";
import { constants, copyFile, link, open, rm, stat, statfs } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { Logger } from "../../base/logger.js";
import { describeSystemError, isOutOfSpace, systemCode } from "../../base/system_errors.js";
import { ownedPrefix, removeLeftOvers } from "../owned_names.js";
import type { Registration } from "../registry.js";
import { badRequest, TorchServeError } from "../routes/torchserve/errors.js";
import { AllowedUrls } from "./allowed_urls.js";
import { DownloadError, download, showUrl, WriteError } from "./download.js";

export interface ModelSourcesOptions {
  modelStore: string | undefined;
  /** URLs that models may come from, besides files of the store: the whole URL must match one. */
  allowedUrls: readonly string[];
  downloadLimitBytes: number;
  downloadTimeoutS: number;
  logger: Logger;
}

/** Where a registered model is, and what it is called in lists. */
export type Located = Pick<Registration, "location" | "isCopy"> & { url: string };

const idleMs = 60_000;
const logMs = 10_000;
const partKind = ".shardspeed-download";

const missing = (message: string) => new TorchServeError(404, "ModelNotFoundException", message);

/** Where the models of a server may come from: the model store, other files, and other servers, whose files are copied to the store. */
export class ModelSources {
  readonly #options: ModelSourcesOptions;
  readonly #allowed: AllowedUrls;
  readonly #ending = new AbortController();
  /** Names of files that are being downloaded. */
  readonly #coming = new Set<string>();

  constructor(options: ModelSourcesOptions) {
    this.#options = options;
    this.#allowed = new AllowedUrls(options.allowedUrls);
  }

  /** Ends downloads. */
  close(): void {
    this.#ending.abort();
  }

  /**
   * Where a model is that is named by a file of the store or by a URL. One of another server is downloaded when it is registered.
   *
   * @param isStart A file that an earlier start has copied is taken as it is.
   * @throws TorchServeError 404, as TorchServe's; 400 for a URL without the name of a file.
   */
  async locate(url: string, { isStart = false } = {}): Promise<Located> {
    const { modelStore } = this.#options;
    if (url.split(/[/\\]/).includes("..")) throw missing(`Relative path is not allowed in url: ${url}`);
    if (/^[a-z][a-z\d+.-]*:\/\//i.test(url)) return this.#locateUrl(url, isStart);
    if (path.isAbsolute(url) && !isInside(url, modelStore)) {
      if (!this.#allowed.allows(`file://${url}`)) throw notAllowed(`file://${url}`);
      return { location: await existing(url, url), url };
    }
    if (modelStore === undefined) throw missing(`Model not found at: ${url}`);
    return { location: await existing(path.resolve(modelStore, url), url), url };
  }

  async #locateUrl(url: string, isStart: boolean): Promise<Located> {
    const isAllowed = this.#allowed.allows(url);
    // Of other schemes TorchServe knows nothing, and takes them for files.
    if (!/^(file|https?):/i.test(url))
      throw isAllowed
        ? badRequest(`Given URL ${url} is none of a file, nor of HTTP.`)
        : missing(`Model not found at: ${url}`);
    if (!isAllowed) throw notAllowed(url);
    if (/^file:/i.test(url)) {
      const file = toPath(url);
      if (!this.#allowed.allows(`file://${file}`)) throw notAllowed(url);
      return { location: await existing(file, url), url };
    }
    if (!URL.canParse(url)) throw badRequest(`Given URL ${url} cannot be read.`);
    const parsed = new URL(url);
    // What is read is what the URL means, whatever it looks like.
    if (!this.#allowed.allows(parsed.href)) throw notAllowed(url);
    const { modelStore } = this.#options;
    if (modelStore === undefined) throw missing("Model store has not been configured.");
    const file = path.join(path.resolve(modelStore), nameOfFile(parsed));
    return { location: () => this.#fetch(parsed, file, isStart), url: showUrl(parsed), isCopy: true };
  }

  /** @returns The file. */
  async #fetch(url: URL, file: string, isStart: boolean): Promise<string> {
    const { logger } = this.#options;
    const isThere = await stat(file).then(
      () => true,
      () => false,
    );
    const name = path.basename(file);
    if (isThere && isStart) {
      logger.info(`${showUrl(url)} is in the model store already: ${file} is taken`);
      return file;
    }
    if (isThere || this.#coming.has(name)) throw alreadyThere(name);
    this.#coming.add(name);
    try {
      await removeLeftOvers(path.dirname(file), partKind);
      return await this.#copy(url, file, isStart);
    } catch (error) {
      throw describeFailure(url, error);
    } finally {
      this.#coming.delete(name);
    }
  }

  /** Under the name of the file only when it is whole. */
  async #copy(url: URL, file: string, isStart: boolean): Promise<string> {
    const { downloadLimitBytes, downloadTimeoutS, logger } = this.#options;
    const folder = path.dirname(file);
    const part = path.join(folder, `${ownedPrefix(partKind)}${randomBytes(6).toString("hex")}`);
    const startedAt = performance.now();
    const handle = await open(part, "wx");
    try {
      logger.info(`Downloading ${showUrl(url)} to ${file}`);
      const free = await freeBytes(folder);
      const bytes = await download(url, handle, {
        allowed: this.#allowed,
        limitBytes: downloadLimitBytes,
        timeoutMs: downloadTimeoutS * 1000,
        idleMs,
        signal: this.#ending.signal,
        onProgress: reportTo(logger, url, free),
      });
      await handle.sync();
      await publish(part, file).catch((error) => {
        // Another server with the same store was faster.
        if (systemCode(error) === "EEXIST" && isStart) return;
        throw systemCode(error) === "EEXIST" ? alreadyThere(path.basename(file)) : error;
      });
      logger.info(
        `Downloaded ${showUrl(url)}: ${bytes} bytes in ${((performance.now() - startedAt) / 1000).toFixed(1)} s`,
      );
      return file;
    } finally {
      await handle.close();
      await rm(part, { force: true }).catch(() => {});
    }
  }
}

/** Gives a file its name, which is no other file's. @throws EEXIST. */
async function publish(part: string, file: string): Promise<void> {
  try {
    await link(part, file);
  } catch (error) {
    // Some file systems have no second names for a file.
    if (!["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"].includes(systemCode(error))) throw error;
    await copyFile(part, file, constants.COPYFILE_EXCL);
  }
}

/** Writes how far a download is, and ends one that the disk has no room for. */
function reportTo(logger: Logger, url: URL, free: number): (bytes: number, total: number | undefined) => void {
  let saidAt = performance.now();
  return (bytes, total) => {
    if (bytes === 0 && total !== undefined && total > free)
      throw new NoRoom(`it has ${total} bytes, and the model store has room for ${free}`);
    if (performance.now() - saidAt < logMs) return;
    saidAt = performance.now();
    const share = total === undefined ? "" : ` of ${total} (${Math.floor((bytes / Math.max(1, total)) * 100)} %)`;
    logger.info(`Downloading ${showUrl(url)}: ${bytes} bytes${share}`);
  };
}

class NoRoom extends DownloadError {}

async function freeBytes(folder: string): Promise<number> {
  return statfs(folder).then(
    ({ bavail, bsize }) => bavail * bsize,
    () => Number.POSITIVE_INFINITY,
  );
}

/** In TorchServe's words, with the reason behind them. */
function describeFailure(url: URL, error: unknown): Error {
  if (error instanceof TorchServeError) return error;
  const shown = showUrl(url);
  if (error instanceof NoRoom || !(error instanceof DownloadError)) {
    const cause = error instanceof WriteError ? error.cause : error;
    const isFull = error instanceof NoRoom || isOutOfSpace(cause);
    const reason = error instanceof NoRoom ? error.message : describeSystemError(cause);
    return new TorchServeError(
      isFull ? 507 : 500,
      "InternalServerException",
      `Failed to save model: ${shown}: ${reason}`,
    );
  }
  if (error.isForbidden) return missing(`Given URL ${shown} cannot be used: ${error.message}`);
  return new TorchServeError(
    400,
    "DownloadArchiveException",
    `Failed to download archive from: ${shown}: ${error.message}`,
  );
}

/** The last part of the path: a plain name, which is no other file's and hides nothing. */
function nameOfFile(url: URL): string {
  const last = url.pathname.split("/").at(-1) ?? "";
  let name = "";
  try {
    name = decodeURIComponent(last);
  } catch {
    // Refused below.
  }
  if (/^[\p{L}\p{N}_][\p{L}\p{N}_.+ -]{0,199}$/u.test(name) && Buffer.byteLength(name) <= 255) return name;
  throw badRequest(`Given URL ${showUrl(url)} does not end with the name of a file.`);
}

function notAllowed(url: string): TorchServeError {
  return missing(`Given URL ${url} does not match any allowed URL(s)`);
}

function alreadyThere(name: string): TorchServeError {
  return new TorchServeError(409, "ConflictStatusException", `Model file already exists ${name}`);
}

function toPath(url: string): string {
  try {
    return fileURLToPath(url);
  } catch (error) {
    throw badRequest(`Given URL ${url} is none of a file of this machine: ${(error as Error).message}`);
  }
}

function isInside(file: string, folder: string | undefined): boolean {
  if (folder === undefined) return false;
  const inside = path.relative(path.resolve(folder), path.resolve(file));
  return inside !== "" && !inside.startsWith("..") && !path.isAbsolute(inside);
}

async function existing(file: string, url: string): Promise<string> {
  const found = await stat(file).catch(() => undefined);
  if (found === undefined || !(found.isFile() || found.isDirectory())) throw missing(`Model not found at: ${url}`);
  return file;
}
