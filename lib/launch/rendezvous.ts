import { onAbort, throwIfAborted } from "../base/abort.js";
import { invalidArgument, isError, ShardspeedError } from "../base/errors.js";
import { guardLogger, type Logger } from "../base/logger.js";
import { readPackageInfo } from "../base/package_info.js";
import type { LaunchEnvironment } from "./environment.js";
import { deriveSessionKey, makeNonce } from "./handshake.js";
import { dataBytes, type Meeting, type Met, meetingPorts, toAddress } from "./meeting.js";
import { Guest } from "./rendezvous_guest.js";
import { Host } from "./rendezvous_host.js";

export type { Met } from "./meeting.js";

export interface RendezvousOptions {
  /** Of readSecret(). */
  secret: Buffer;
  /** Time limit for all ranks to come. Default: 300,000, since processes on many hosts do not start at the same time. */
  timeoutMs?: number | undefined;
  signal?: AbortSignal | undefined;
  logger: Logger;
}

/**
 * Brings all ranks of a start together: each sends data to all others, and all get a key that nobody else has. Rank 0 listens on the first
 * free port of masterPort to masterPort + 15, and the others look for it there.
 *
 * @param data this rank's data for the others: JSON, at most 1 MiB
 * @throws ShardspeedError ERR_COMM if ranks do not come in time, leave again, or have another secret, world size or version; ERR_ABORTED
 *   by the signal. No socket and no timer is left, whether it succeeds or fails.
 */
export async function rendezvous(
  place: LaunchEnvironment,
  data: unknown,
  { secret, timeoutMs = 300_000, signal, logger }: RendezvousOptions,
): Promise<Met> {
  const text = JSON.stringify(data) ?? "null";
  if (Buffer.byteLength(text) > dataBytes - 1024) {
    throw invalidArgument("the data of a rank", `at most ${dataBytes - 1024} bytes of JSON`, text.length);
  }
  throwIfAborted(signal, meetingOfRanks);
  if (place.worldSize === 1) {
    const sessionKey = deriveSessionKey(secret, [makeNonce()]);
    return { members: [{ address: toAddress(place.masterAddr), data: JSON.parse(text) }], sessionKey };
  }
  if (meetingPorts(place).length === 0) {
    throw new ShardspeedError(
      "ERR_CONFIG",
      `Found MASTER_PORT=${place.masterPort}, expected a port with free ones after it`,
    );
  }
  const meeting: Meeting = { place, data: text, secret, version: readPackageInfo().version, logger };
  return meet(meeting, timeoutMs, signal);
}

/** The largest delay of setTimeout(). */
const longestTimer = 2 ** 31 - 1;

const meetingOfRanks = "The meeting of the ranks";

async function meet(given: Meeting, timeoutMs: number, signal: AbortSignal | undefined): Promise<Met> {
  let end: (error: unknown) => void = () => {};
  const ended = new Promise<never>((_, reject) => {
    end = reject;
  });
  ended.catch(() => {}); // the logger may throw once more while the ranks leave
  const meeting = { ...given, logger: guardLogger(given.logger, end) };
  const side = meeting.place.rank === 0 ? new Host(meeting) : new Guest(meeting);
  const timer = setTimeout(
    () => {
      const message = `The ranks did not meet within ${timeoutMs / 1000} s: ${side.describe()}`;
      end(new ShardspeedError("ERR_COMM", message));
    },
    Math.min(timeoutMs, longestTimer),
  );
  const stopListening = onAbort(signal, end, meetingOfRanks);
  const outcome = side.meet();
  // The first of the two counts; a later rejection of the other one is ignored.
  outcome.catch(() => {});
  try {
    const met = await Promise.race([outcome, ended]);
    await side.leave();
    return met;
  } catch (error) {
    const cancelled = ShardspeedError.isInstance(error) && error.code === "ERR_ABORTED";
    const reason = isError(error) ? error.message : String(error);
    await side.leave(cancelled ? "it was cancelled there" : reason);
    throw error;
  } finally {
    clearTimeout(timer);
    stopListening();
  }
}
