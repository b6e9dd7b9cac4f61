import { randomBytes } from "node:crypto";
import { statSync } from "node:fs";
import { createServer } from "node:net";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { launch } from "../launch/launcher.js";

/** The flags of `shardspeed run`, as commander hands them over. */
interface RunFlags {
  nprocPerNode: number;
  nnodes: number;
  nodeRank?: number;
  masterAddr?: string;
  masterPort?: number;
  node: boolean;
  prefix: boolean;
  graceSeconds: number;
}

const maxRanks = 65536;
/** What a launcher around this one says to its own ranks. */
const foreignVariables = ["TORCHELASTIC_RUN_ID", "TORCHELASTIC_USE_AGENT_STORE"];

/** `shardspeed run`: exits with 0, or as the first rank that failed did. */
export async function run(script: string, args: string[], flags: RunFlags): Promise<void> {
  const world = readWorld(flags);
  if (flags.node) checkScript(script);
  const secret = process.env.SHARDSPEED_SECRET || makeSecret(flags.nnodes);
  const port = flags.masterPort ?? (flags.nnodes > 1 ? 29500 : await findFreePort());
  const shared = {
    WORLD_SIZE: String(world.worldSize),
    LOCAL_WORLD_SIZE: String(flags.nprocPerNode),
    MASTER_ADDR: flags.masterAddr ?? "127.0.0.1",
    MASTER_PORT: String(port),
    SHARDSPEED_SECRET: secret,
    SHARDSPEED_LAUNCHER: "run",
    ...(flags.node ? { SHARDSPEED_WATCHED_LAUNCHER: String(process.pid) } : {}),
  };
  const base = Object.fromEntries(Object.entries(process.env).filter(([name]) => !foreignVariables.includes(name)));
  process.exitCode = await launch({
    ...toCommand(script, args, flags.node),
    ranks: Array.from({ length: flags.nprocPerNode }, (_, index) => world.firstRank + index),
    environment: (rank) => ({ ...base, ...shared, RANK: String(rank), LOCAL_RANK: String(rank - world.firstRank) }),
    prefix: flags.prefix,
    graceMs: flags.graceSeconds * 1000,
  });
}

function readWorld(flags: RunFlags): { worldSize: number; firstRank: number } {
  const { nprocPerNode, nnodes, nodeRank, masterAddr, masterPort, graceSeconds } = flags;
  check("--nproc-per-node", nprocPerNode, 1, maxRanks);
  check("--nnodes", nnodes, 1, maxRanks);
  check("--nnodes times --nproc-per-node", nnodes * nprocPerNode, 1, maxRanks);
  if (masterPort !== undefined) check("--master-port", masterPort, 1, 65535);
  if (!(graceSeconds >= 0)) throw invalidArgument("--grace-seconds", "a number of at least 0", graceSeconds);
  if (nnodes > 1 && (nodeRank === undefined || masterAddr === undefined)) {
    throw new ShardspeedError(
      "ERR_INVALID_ARGUMENT",
      `--nnodes ${nnodes} needs --node-rank and --master-addr, the host of node 0`,
    );
  }
  if (nodeRank !== undefined) check("--node-rank", nodeRank, 0, nnodes - 1);
  return { worldSize: nnodes * nprocPerNode, firstRank: (nodeRank ?? 0) * nprocPerNode };
}

function check(name: string, value: number, least: number, most: number): void {
  if (value < least || value > most) throw invalidArgument(name, `an integer from ${least} to ${most}`, value);
}

function checkScript(script: string): void {
  const stats = statSync(script, { throwIfNoEntry: false });
  if (stats?.isFile()) return;
  const found = stats === undefined ? "there is no such file" : "it is no file";
  throw new ShardspeedError(
    "ERR_INVALID_ARGUMENT",
    `Cannot run ${script}: ${found}. Other programs than Node scripts need --no-node`,
  );
}

/** Where all ranks are children of this process, nobody has to know it before. */
function makeSecret(nnodes: number): string {
  if (nnodes === 1) return randomBytes(32).toString("hex");
  throw new ShardspeedError(
    "ERR_CONFIG",
    `SHARDSPEED_SECRET is not set. Set it to the same value on all ${nnodes} nodes, such as the output of openssl rand -hex 32`,
  );
}

function toCommand(script: string, args: string[], node: boolean): { command: string; args: string[] } {
  if (!node) return { command: script, args };
  const watch = fileURLToPath(new URL("../launch/watch.js", import.meta.url));
  const options = [...process.execArgv, "--import", pathToFileURL(watch).href];
  return { command: process.execPath, args: [...options, path.resolve(script), ...args] };
}

/** A port that is free now, with room for those after it, which rank 0 tries too. */
function findFreePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      const port = address !== null && typeof address === "object" ? address.port : 0;
      server.close(() => resolve(Math.min(port, 65520)));
    });
  });
}
