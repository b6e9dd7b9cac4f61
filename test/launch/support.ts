import { randomInt } from "node:crypto";
import type { LaunchEnvironment } from "../../dist/launch/environment.js";

const taken = new Set<number>();

/** Places in a world on this host, on a range of ports that hardly any other test uses, below those that the system hands out. */
export function makePlaces(worldSize: number, changes: Partial<LaunchEnvironment> = {}): LaunchEnvironment[] {
  let masterPort: number;
  do masterPort = 16 * randomInt(16384 / 16, 32768 / 16);
  while (taken.has(masterPort));
  taken.add(masterPort);
  return Array.from({ length: worldSize }, (_, rank) => ({
    rank,
    worldSize,
    localRank: rank,
    localWorldSize: worldSize,
    masterAddr: "127.0.0.1",
    masterPort,
    launcher: "environment",
    agentHoldsPort: false,
    ...changes,
  }));
}
