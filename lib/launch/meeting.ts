import type { Logger } from "../base/logger.js";
import type { LaunchEnvironment } from "./environment.js";

/** What both sides of a meeting go by. */
export interface Meeting {
  place: LaunchEnvironment;
  /** What this rank tells the others, as JSON. */
  data: string;
  secret: Buffer;
  /** Of this package: ranks of different versions do not compute together. */
  version: string;
  logger: Logger;
}

export interface Met {
  /** By rank: where rank 0 sees its host (an address, or MASTER_ADDR for the host of rank 0), and what it told. */
  members: { address: string; data: unknown }[];
  /** 32 bytes, equal on all ranks, never sent. */
  sessionKey: Buffer;
}

/** One side of a meeting: rank 0, to which the others come, or one of those. */
export interface Side {
  /** Rejects with ERR_COMM. After leave() nothing it does has an effect any more. */
  meet(): Promise<Met>;
  /** What is known where the time is up: who has come, where was looked. */
  describe(): string;
  /** Ends every connection, and says why to the others where it is early. Resolves when no socket and no timer is left. */
  leave(reason?: string): Promise<void>;
}

/** What is sent between ranks that know each other. */
export type Message =
  | { type: "data"; data: unknown }
  | { type: "present"; ranks: number[] }
  | { type: "result"; members: { address: string | null; data: unknown }[]; nonces: string[] }
  | { type: "received" }
  | { type: "failed"; reason: string };

/** Most bytes that one rank may tell the others. */
export const dataBytes = 2 ** 20;

const portCount = 16;

/** Where rank 0 may listen, in this order: other programs may have some of the ports. */
export function meetingPorts({ masterPort, agentHoldsPort }: LaunchEnvironment): number[] {
  const ports: number[] = [];
  const first = agentHoldsPort ? masterPort + 1 : masterPort;
  for (let port = first; port < masterPort + portCount && port <= 65535; port++) ports.push(port);
  return ports;
}

/** An address or name of this host that no other host reaches. */
export function isLoopback(address: string): boolean {
  return /^(localhost|.*\.localhost|127\.\d+\.\d+\.\d+|::1|::ffff:127\.\d+\.\d+\.\d+)$/i.test(address);
}

/** Whether all ranks come to rank 0 by an address that no other host reaches. */
export function isOnThisHostOnly({ masterAddr, launcher, worldSize, localWorldSize }: LaunchEnvironment): boolean {
  // Some versions of the operator tell the pod of rank 0 "localhost", and the other pods its name.
  return isLoopback(masterAddr) && !(launcher === "kubernetes" && localWorldSize < worldSize);
}

/** A name that means this host may stand for its IPv4 or its IPv6 address: both sides take the same one. */
export function toAddress(masterAddr: string): string {
  return /^(localhost|.*\.localhost)$/i.test(masterAddr) ? "127.0.0.1" : masterAddr;
}

/** Numbers in order, short: "0, 3 to 6". */
export function listNumbers(numbers: number[]): string {
  const sorted = [...numbers].sort((a, b) => a - b);
  const parts: string[] = [];
  for (let first = 0; first < sorted.length; ) {
    let last = first;
    while (sorted[last + 1] === (sorted[last] as number) + 1) last++;
    if (last - first < 2) last = first;
    parts.push(last === first ? `${sorted[first]}` : `${sorted[first]} to ${sorted[last]}`);
    first = last + 1;
  }
  return parts.join(", ");
}

/** Who has come and who has not. */
export function listMissing(worldSize: number, present: number[]): string {
  const missing = Array.from({ length: worldSize }, (_, rank) => rank).filter((rank) => !present.includes(rank));
  return `of ${worldSize} ranks ${listNumbers(present)} came, missing: ${listNumbers(missing)}`;
}
