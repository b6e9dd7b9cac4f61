import { closeSync, constants, fstatSync, openSync, readSync, type Stats, statSync } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import path from "node:path";
import { orAborted, throwIfAborted } from "./abort.js";
import { type ErrorCode, isError, ShardspeedError } from "./errors.js";
import { describeSystemError, kindOfFile, systemCode } from "./system_errors.js";
import { escapeControls } from "./text.js";

/** The most bytes that are read of each kind of file: far more than any that was published has. */
export const fileLimits = {
  /** config.json and the other settings of a model: published ones have up to 2 MB, most of it added tokens. */
  settings: 2 ** 24,
  /** tokenizer.json, vocab.json, merges.txt, tokenizer.model: up to 35 MB. */
  vocabulary: 2 ** 28,
  /** Chat templates: 20 kB. */
  template: 2 ** 20,
  /** ds-config.json: 10 kB. */
  deepSpeedConfig: 2 ** 20,
  /** model-config.yaml: 10 kB. */
  yaml: 2 ** 20,
  /** config.properties: 2 kB. */
  properties: 2 ** 20,
  /** API keys: a line each. */
  keys: 2 ** 20,
  /** index_to_name.json: 1 MB for ImageNet. */
  mapping: 2 ** 26,
} as const;

/** How a file of strangers is read. */
export interface FileRules {
  /** Of the errors. */
  code: ErrorCode;
  limitBytes: number;
  signal?: AbortSignal | undefined;
}

/** Without O_NONBLOCK, opening a pipe waits for a writer: for ever, and in a thread that nothing can end. */
const openFlags = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);

/**
 * Opens a file for reading if it is a regular one, or a link to one: pipes, sockets and devices are refused before a byte is read.
 *
 * @throws What `fail` makes of the reason.
 */
export async function openRegularFile(
  file: string,
  fail: (reason: string, cause?: unknown) => Error,
): Promise<{ handle: FileHandle; stats: Stats }> {
  const failed = (error: unknown) => {
    throw fail(describeSystemError(error), error);
  };
  const check = (stats: Stats) => {
    if (!stats.isFile()) throw fail(`is ${kindOfFile(stats)}, expected a regular file`);
    return stats;
  };
  // Before it is opened, which some devices take as an order; and again, since another may have taken its place.
  check(await stat(file).catch(failed));
  const handle = await open(file, openFlags).catch(failed);
  try {
    return { handle, stats: check(await handle.stat().catch(failed)) };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/**
 * The bytes of a small file that a stranger may have written; undefined where there is none.
 *
 * @throws ShardspeedError `code`, with the absolute path, for what is no regular file, is longer than the limit or cannot be read; ERR_ABORTED.
 */
export async function readRegularFile(file: string, rules: FileRules): Promise<Buffer | undefined> {
  throwIfAborted(rules.signal, `Reading ${file}`);
  return orAborted(readWhole(file, rules), rules.signal, `Reading ${file}`);
}

async function readWhole(file: string, rules: FileRules): Promise<Buffer | undefined> {
  let opened: FileHandle | undefined;
  try {
    const { handle, stats } = await openRegularFile(file, (reason, cause) =>
      isError(cause) ? cause : problem(file, reason, rules),
    );
    opened = handle;
    const content = new Content(file, stats.size, rules);
    for (let length = -1; length !== 0; ) {
      const space = content.space();
      length = (await handle.read(space, 0, space.length, null)).bytesRead;
      content.add(length);
    }
    return content.bytes();
  } catch (error) {
    return noFileOrThrow(file, error, rules);
  } finally {
    await opened?.close();
  }
}

/** As readRegularFile(), for calls that answer at once. */
export function readRegularFileSync(file: string, rules: Omit<FileRules, "signal">): Buffer | undefined {
  let descriptor: number | undefined;
  try {
    const check = (stats: Stats) => {
      if (!stats.isFile()) throw problem(file, `is ${kindOfFile(stats)}, expected a regular file`, rules);
      return stats;
    };
    check(statSync(file));
    descriptor = openSync(file, openFlags);
    const stats = check(fstatSync(descriptor));
    const content = new Content(file, stats.size, rules);
    for (let length = -1; length !== 0; ) {
      const space = content.space();
      length = readSync(descriptor, space, 0, space.length, null);
      content.add(length);
    }
    return content.bytes();
  } catch (error) {
    return noFileOrThrow(file, error, rules);
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

/** For messages: "is ...". */
export const gitLfsPointer =
  "a git-lfs pointer instead of the file itself: run `git lfs pull` in its folder, or download it again";

/** Whether a file begins as git leaves it where git-lfs did not fetch it. */
export function isGitLfsPointer(head: Buffer): boolean {
  return head.toString("latin1", 0, 42).startsWith("version https://git-lfs.github.com/spec/");
}

/** UTF-8 text without the byte order mark that some editors write. */
export function decodeText(bytes: Buffer): string {
  const text = bytes.toString("utf8");
  return text.startsWith("\uFEFF") ? text.slice(1) : text;
}

/** What has been read of a file. Its size is a guess only: files of /proc state 0, and another process may be writing. */
class Content {
  #buffer: Buffer;
  #length = 0;

  constructor(
    readonly file: string,
    size: number,
    readonly rules: Omit<FileRules, "signal">,
  ) {
    if (size > rules.limitBytes) throw this.#tooLong(`${size} bytes long`);
    this.#buffer = Buffer.allocUnsafe(size + 1);
  }

  space(): Buffer {
    if (this.#length === this.#buffer.length) {
      const larger = Buffer.allocUnsafe(Math.min(Math.max(2 * this.#length, 4096), this.rules.limitBytes + 1));
      this.#buffer.copy(larger, 0, 0, this.#length);
      this.#buffer = larger;
    }
    return this.#buffer.subarray(this.#length);
  }

  add(length: number): void {
    this.#length += length;
    if (this.#length > this.rules.limitBytes) throw this.#tooLong("longer");
  }

  /** @throws What a git-lfs pointer is: read as a vocabulary or as JSON it would be one of three lines, or a riddle. */
  bytes(): Buffer {
    const bytes = this.#buffer.subarray(0, this.#length);
    if (isGitLfsPointer(bytes)) throw problem(this.file, `is ${gitLfsPointer}`, this.rules);
    return bytes;
  }

  #tooLong(found: string): ShardspeedError {
    return problem(this.file, `is ${found}, expected at most ${this.rules.limitBytes} bytes`, this.rules);
  }
}

function problem(file: string, reason: string, { code }: Pick<FileRules, "code">, cause?: unknown): ShardspeedError {
  const message = escapeControls(`${path.resolve(file)}: ${reason}`);
  return new ShardspeedError(code, message, cause === undefined ? undefined : { cause });
}

function noFileOrThrow(file: string, error: unknown, rules: Pick<FileRules, "code">): undefined {
  if (ShardspeedError.isInstance(error)) throw error;
  if (["ENOENT", "ENOTDIR"].includes(systemCode(error))) return undefined;
  throw problem(file, describeSystemError(error), rules, error);
}
