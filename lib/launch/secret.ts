import { randomBytes } from "node:crypto";
import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  fsyncSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  type Stats,
  unlinkSync,
  writeSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import path from "node:path";
import { isError, ShardspeedError } from "../base/errors.js";
import type { LaunchEnvironment } from "./environment.js";

const leastLength = 16;

/**
 * The secret that the ranks of a group share, and by which they know each other: SHARDSPEED_SECRET, or, where all ranks are on one host, a key
 * file of this user, which the first rank makes.
 *
 * @throws ShardspeedError ERR_CONFIG if there is none, or if others could know it.
 */
export function readSecret(
  place: Pick<LaunchEnvironment, "worldSize" | "localWorldSize">,
  env: NodeJS.ProcessEnv = process.env,
): Buffer {
  const given = env.SHARDSPEED_SECRET;
  if (given) {
    if (given.length >= leastLength) return Buffer.from(given);
    throw new ShardspeedError(
      "ERR_CONFIG",
      `SHARDSPEED_SECRET has ${given.length} characters, expected at least ${leastLength}: take the output of openssl rand -hex 32`,
    );
  }
  if (place.localWorldSize === place.worldSize) return readKeyFile(env);
  throw new ShardspeedError(
    "ERR_CONFIG",
    `SHARDSPEED_SECRET is not set, and the ${place.worldSize} ranks are on several hosts (${place.localWorldSize} on this one). Set it to the ` +
      "same value on all ranks, such as the output of openssl rand -hex 32",
  );
}

function readKeyFile(env: NodeJS.ProcessEnv): Buffer {
  let failure: unknown;
  for (const folder of keyFolders(env)) {
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
    } catch (error) {
      failure = error;
      continue;
    }
    check(folder, lstatSync(folder), "folder");
    const file = path.join(folder, "secret");
    const key = openKey(file) ?? makeKey(file);
    if (key !== undefined) return key;
    failure = `${file} cannot be made`;
  }
  throw new ShardspeedError(
    "ERR_CONFIG",
    `There is no place for the key file that the ranks of one host share: ${isError(failure) ? failure.message : failure}. Set ` +
      "SHARDSPEED_SECRET to the same value on all ranks",
    isError(failure) ? { cause: failure } : undefined,
  );
}

/** In order of preference. All ranks of a host find the same folder, since the same user has the same home. */
function keyFolders(env: NodeJS.ProcessEnv): string[] {
  const state = env.XDG_STATE_HOME;
  // A relative path is to be ignored, says the XDG base directory specification.
  const home = env.HOME || findHome();
  const base = state && path.isAbsolute(state) ? state : home && path.join(home, ".local", "state");
  const temporary = path.join(tmpdir(), `shardspeed-${process.geteuid?.() ?? "user"}`);
  return base ? [path.join(base, "shardspeed"), temporary] : [temporary];
}

/** Undefined for a user that the system does not know, as in a container with an arbitrary user id. */
function findHome(): string | undefined {
  try {
    return homedir();
  } catch {
    return undefined;
  }
}

/** The key, or undefined if there is no file yet. */
function openKey(file: string): Buffer | undefined {
  let descriptor: number;
  try {
    // Non-blocking, so that a pipe in this place does not block the rank before it is refused.
    descriptor = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return undefined;
    throw unsafe(file, code === "ELOOP" ? "it is a symbolic link" : message);
  }
  try {
    check(file, fstatSync(descriptor), "file");
    const key = readFileSync(descriptor, "utf8").trim();
    if (!/^[0-9a-f]{64}$/.test(key)) throw unsafe(file, "it does not hold 64 hexadecimal digits");
    return Buffer.from(key, "hex");
  } finally {
    closeSync(descriptor);
  }
}

/** Makes the file together with its content. If several ranks do so at once, one is first, and the others find its file. */
function makeKey(file: string): Buffer | undefined {
  const temporary = `${file}.${process.pid}.${randomBytes(6).toString("hex")}`;
  let descriptor: number;
  try {
    descriptor = openSync(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  } catch {
    return undefined; // nothing can be written here
  }
  try {
    fchmodSync(descriptor, 0o600);
    writeSync(descriptor, `${randomBytes(32).toString("hex")}\n`);
    fsyncSync(descriptor);
    linkSync(temporary, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") return undefined;
  } finally {
    closeSync(descriptor);
    unlinkSync(temporary);
  }
  return openKey(file);
}

/** Throws if another user could read or replace the file or folder. */
function check(place: string, stats: Stats, kind: "file" | "folder"): void {
  if (kind === "folder" ? !stats.isDirectory() : !stats.isFile()) throw unsafe(place, `it is no ${kind}`);
  const user = process.geteuid?.();
  if (user !== undefined && stats.uid !== user) throw unsafe(place, `it belongs to user ${stats.uid}, not to ${user}`);
  if ((stats.mode & 0o077) !== 0) {
    const mode = (stats.mode & 0o777).toString(8);
    const expected = kind === "folder" ? "700" : "600";
    throw unsafe(place, `its mode is ${mode}: others can use it (chmod ${expected} if nobody has)`);
  }
}

function unsafe(place: string, reason: string): ShardspeedError {
  return new ShardspeedError(
    "ERR_CONFIG",
    `The key that the ranks of this host share is not taken from ${place}: ${reason}. Remove it, or set SHARDSPEED_SECRET to the same value on ` +
      "all ranks",
  );
}
