import type { Logger } from "../base/logger.js";
import type { LaunchEnvironment } from "./environment.js";

/** Input of both sides of a meeting. */
export interface Meeting {
  place: LaunchEnvironment;
  /** This rank's data for the others, as JSON. */
  data: string;
  secret: Buffer;
  /** Of this package. Ranks of different versions do not compute together. */
  version: string;
  logger: Logger;
}

export interface Met {
  /** By rank: its host's address as rank 0 sees it (MASTER_ADDR for the host of rank 0), and its data. */
  members: { address: string; data: unknown }[];
  /** 32 bytes, equal on all ranks, never sent. */
  sessionKey: Buffer;
}

/** One side of a meeting: rank 0 (host) or another rank (guest). */
export interface Side {
  /** Rejects with ERR_COMM. Has no effect any more after leave(). */
  meet(): Promise<Met>;
  /** For the error at the time limit: which ranks have come, where this rank has looked. */
  describe(): string;
  /** Ends every connection, and tells the others the reason, if any. Resolves when no socket and no timer is left. */
  leave(reason?: string): Promise<void>;
}

/** Messages after the handshake. */
export type Message =
  | { type: "data"; data: unknown }
  | { type: "present"; ranks: number[] }
  | { type: "result"; members: { address: string | null; data: unknown }[]; nonces: string[] }
  | { type: "received" }
  | { type: "failed"; reason: string };

/** Most bytes of one rank's data. */
export const dataBytes = 2 ** 20;

const portCount = 16;

/** The ports that rank 0 tries, in this order: other programs may have some of them. */
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

/** "localhost" may mean an IPv4 or an IPv6 address, so both sides take the IPv4 one. */
export function toAddress(masterAddr: string): string {
  return /^(localhost|.*\.localhost)$/i.test(masterAddr) ? "127.0.0.1" : masterAddr;
}

/** Lists numbers in order, runs shortened: "0, 3 to 6". */
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

/** Lists the ranks that have come and those that are missing. */
export function listMissing(worldSize: number, present: number[]): string {
  const missing = Array.from({ length: worldSize }, (_, rank) => rank).filter((rank) => !present.includes(rank));
  return `of ${worldSize} ranks ${listNumbers(present)} came, missing: ${listNumbers(missing)}`;
}
