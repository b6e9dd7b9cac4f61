import { createHash, timingSafeEqual } from "node:crypto";
import { ShardspeedError } from "../../base/errors.js";
import { parseJson } from "../../base/json.js";
import { isObject } from "../../base/objects.js";
import { decodeText, fileLimits, readRegularFile } from "../../base/regular_file.js";

/** What a key opens. */
export const scopes = ["inference", "management", "metrics"] as const;
export type Scope = (typeof scopes)[number];

/** A key, without itself. */
export interface ApiKey {
  /** For logs. */
  name: string;
  scopes: readonly Scope[];
}

interface StoredKey extends ApiKey {
  digest: Buffer;
  /** Milliseconds since 1970. */
  expiresAt?: number;
}

/** A key as a file has it. */
interface FoundKey {
  key: string;
  name?: string | undefined;
  scopes?: readonly Scope[] | undefined;
  expiresAt?: number;
}

/** Keys that open a server. Only their hashes are kept. */
export class KeyRing {
  readonly #keys: readonly StoredKey[];

  constructor(found: readonly FoundKey[]) {
    this.#keys = found.map(({ key, name, scopes: given, expiresAt }, i) => ({
      name: name ?? `key ${i + 1}`,
      scopes: given ?? scopes,
      digest: digestOf(key),
      ...(expiresAt === undefined ? {} : { expiresAt }),
    }));
  }

  get size(): number {
    return this.#keys.length;
  }

  /** The key that a client sent. The time that it takes tells nothing about the keys: hashes are compared, with all keys, to their ends. */
  find(sent: string, now = Date.now()): ApiKey | undefined {
    const digest = digestOf(sent);
    let found: StoredKey | undefined;
    for (const key of this.#keys) if (timingSafeEqual(key.digest, digest)) found = key;
    if (found === undefined || (found.expiresAt ?? Number.POSITIVE_INFINITY) <= now) return undefined;
    return { name: found.name, scopes: found.scopes };
  }
}

function digestOf(key: string): Buffer {
  return createHash("sha256").update(key).digest();
}

/**
 * The keys of a server; undefined where it asks for none.
 *
 * @throws ShardspeedError ERR_CONFIG for a file that cannot be read, is wrong or has no key.
 */
export async function readKeys(settings: {
  apiKeyFile: string | undefined;
  apiKey: string | undefined;
  disableTokenAuthorization: boolean;
}): Promise<KeyRing | undefined> {
  const { apiKeyFile, apiKey, disableTokenAuthorization } = settings;
  if (disableTokenAuthorization || (apiKeyFile === undefined && apiKey === undefined)) return undefined;
  const found: FoundKey[] = apiKey === undefined ? [] : [{ key: apiKey, name: "SHARDSPEED_API_KEY" }];
  if (apiKeyFile !== undefined) {
    const bytes = await readRegularFile(apiKeyFile, { code: "ERR_CONFIG", limitBytes: fileLimits.keys });
    if (bytes === undefined) throw new ShardspeedError("ERR_CONFIG", `There is no file of API keys ${apiKeyFile}`);
    found.push(...parseKeys(decodeText(bytes), apiKeyFile));
  }
  return new KeyRing(found);
}

/** @throws ShardspeedError ERR_CONFIG; the message holds no key. */
export function parseKeys(text: string, file: string): FoundKey[] {
  const found = /^\s*[[{]/.test(text) ? readJson(text, file) : readLines(text, file);
  if (found.length === 0) throw wrong(file, "expected at least one API key, found none");
  for (const { key } of found) {
    // What no header carries would never be found.
    if (!/^[\x21-\x7e]{1,4096}$/.test(key))
      throw wrong(file, "expected keys of printable ASCII characters without blanks, found another one");
  }
  return found;
}

/** `[NAME:]KEY [SCOPES]` a line. */
function readLines(text: string, file: string): FoundKey[] {
  return text.split(/\r\n|\r|\n/).flatMap((line, i) => {
    const [first = "", ...rest] = line
      .replace(/(^|\s)#.*$/, "")
      .trim()
      .split(/\s+/);
    if (first === "") return [];
    const [, name, key = ""] = /^(?:([\w.-]+):)?(.+)$/.exec(first) ?? [];
    const words = rest.flatMap((part) => part.split(",")).filter((word) => word !== "");
    return [{ key, name, scopes: words.length === 0 ? undefined : readScopes(words, `${file}:${i + 1}`) }];
  });
}

function readScopes(words: readonly unknown[], where: string): Scope[] {
  if (!words.every((word): word is Scope => scopes.includes(word as Scope)))
    throw wrong(where, `expected scopes among ${scopes.join(", ")}, found something else`);
  return [...new Set(words)];
}

function readJson(text: string, file: string): FoundKey[] {
  let parsed: unknown;
  try {
    parsed = parseJson(text, file, "ERR_CONFIG");
  } catch {
    // What the reader says of JSON shows a part of it, which may be a key.
    throw wrong(file, "is not JSON, though it begins with a bracket");
  }
  if (isObject(parsed) && ["inference", "management"].some((name) => isObject((parsed as object)[name as never])))
    return readTorchServe(parsed, file);
  const list = isObject(parsed) ? parsed.keys : parsed;
  if (!Array.isArray(list)) throw wrong(file, 'expected a list of keys, or {"keys": [...]}');
  return list.map((entry, i) => readEntry(entry, `${file}: key ${i + 1}`));
}

function readEntry(entry: unknown, where: string): FoundKey {
  if (typeof entry === "string") return { key: entry };
  if (!isObject(entry) || typeof entry.key !== "string") throw wrong(where, 'expected text, or an object with "key"');
  const { key, name, scopes: given } = entry;
  if (name !== undefined && typeof name !== "string") throw wrong(where, "expected text as name");
  if (given !== undefined && !Array.isArray(given)) throw wrong(where, "expected a list as scopes");
  return { key, name, scopes: given === undefined ? undefined : readScopes(given, where) };
}

/** Its key for /token is not there: keys are not made anew. */
function readTorchServe(parsed: Record<string, unknown>, file: string): FoundKey[] {
  return (["inference", "management"] as const).flatMap((scope) => {
    const entry = parsed[scope];
    if (entry === undefined) return [];
    if (!isObject(entry) || typeof entry.key !== "string") throw wrong(file, `expected "key" in "${scope}"`);
    const expires = entry["expiration time"];
    const expiresAt = expires === undefined ? undefined : Date.parse(String(expires));
    if (Number.isNaN(expiresAt)) throw wrong(file, `expected a date as "expiration time" of "${scope}"`);
    const found: FoundKey = { key: entry.key, name: scope, scopes: [scope, "metrics"] };
    return [expiresAt === undefined ? found : { ...found, expiresAt }];
  });
}

function wrong(where: string, text: string): ShardspeedError {
  return new ShardspeedError("ERR_CONFIG", `${where}: ${text}`);
}
