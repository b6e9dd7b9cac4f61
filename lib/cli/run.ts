import { statSync } from "node:fs";
import { constants } from "node:os";
import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { exitStatus, type RankExit } from "../launch/rank_process.js";
import { findFreePort, RankSet } from "../launch/rank_set.js";
import { formatPrefix, forwardLines, Sink, wantsColor } from "./prefixed_output.js";

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

/** `shardspeed run`: exits with 0, or as the first rank that failed did. */
export async function run(script: string, args: string[], flags: RunFlags): Promise<void> {
  const world = readWorld(flags);
  if (flags.node) checkScript(script);
  const secret = readSecret(flags.nnodes);
  const outputs = { stdout: new Sink(process.stdout), stderr: new Sink(process.stderr) };
  const ranks = new RankSet({
    program: script,
    args,
    node: flags.node,
    count: flags.nprocPerNode,
    ...world,
    ...(flags.masterAddr === undefined ? {} : { masterAddr: flags.masterAddr }),
    // Found before signals are listened to: until then one ends this process.
    masterPort: flags.masterPort ?? (flags.nnodes > 1 ? 29500 : await findFreePort()),
    ...(secret === undefined ? {} : { secret }),
    input: "inherit",
    output: flags.prefix
      ? (source, { rank, name }, onWait) => {
          const prefix = formatPrefix(rank, wantsColor(process[name], process.env));
          return forwardLines(source, outputs[name], prefix, onWait);
        }
      : "inherit",
    graceMs: flags.graceSeconds * 1000,
  });
  const signals = new PassedOnSignals(ranks, flags.graceSeconds * 1000);
  ranks.on("failed", (exit) => {
    // What ranks end with that have been told to end is no surprise.
    if (signals.toldToEnd) return;
    const line = `shardspeed: ${describeFailure(exit)}${flags.nprocPerNode > 1 ? "; ending the others" : ""}\n`;
    void outputs.stderr.write(Buffer.from(line));
  });
  try {
    await ranks.start();
    const failed = await ranks.ended;
    process.exitCode = signals.interruptedTwice ? 128 + constants.signals.SIGINT : failed ? exitStatus(failed) : 0;
  } finally {
    signals.stopListening();
  }
}

function describeFailure({ rank, code, signal }: RankExit): string {
  return `rank ${rank} ${signal === null ? `failed with exit code ${code}` : `was ended by ${signal}`}`;
}

// A terminal sends these to the whole foreground group, which the ranks are not in.
const groupSignals = ["SIGINT", "SIGQUIT", "SIGHUP", "SIGCONT"] as const;
const processSignals = ["SIGTERM", "SIGUSR1", "SIGUSR2", "SIGWINCH"] as const;
const endingSignals: readonly NodeJS.Signals[] = ["SIGINT", "SIGQUIT", "SIGHUP", "SIGTERM"];

/** Passes the signals of this process on to ranks. */
class PassedOnSignals {
  readonly #ranks: RankSet;
  readonly #graceMs: number;
  readonly #listeners: [NodeJS.Signals, () => void][] = [];
  #interrupts = 0;
  /** Whether a signal was passed on that ends programs. */
  toldToEnd = false;

  constructor(ranks: RankSet, graceMs: number) {
    this.#ranks = ranks;
    this.#graceMs = graceMs;
    for (const signal of groupSignals) this.#on(signal, () => this.#toGroups(signal));
    for (const signal of processSignals) this.#on(signal, () => this.#toRanks(signal));
    // The ranks cannot be stopped by a terminal that is not theirs; then this process stops as it would have.
    this.#on("SIGTSTP", () => {
      this.#ranks.signal("SIGSTOP", "groups");
      process.kill(process.pid, "SIGSTOP");
    });
  }

  get interruptedTwice(): boolean {
    return this.#interrupts > 1;
  }

  stopListening(): void {
    for (const [signal, listener] of this.#listeners) process.removeListener(signal, listener);
  }

  #on(signal: NodeJS.Signals, listener: () => void): void {
    process.on(signal, listener);
    this.#listeners.push([signal, listener]);
  }

  #toGroups(signal: NodeJS.Signals): void {
    this.toldToEnd ||= endingSignals.includes(signal);
    if (signal === "SIGINT" && ++this.#interrupts > 1) this.#ranks.kill();
    else this.#ranks.signal(signal, "groups");
  }

  #toRanks(signal: NodeJS.Signals): void {
    this.toldToEnd ||= endingSignals.includes(signal);
    this.#ranks.signal(signal, "ranks");
    // Whoever ends this process counts on its end.
    if (signal === "SIGTERM") this.#ranks.killAfter(this.#graceMs);
  }
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

/** undefined where all ranks are children of this process: then nobody has to know it before. */
function readSecret(nnodes: number): string | undefined {
  const given = process.env.SHARDSPEED_SECRET || undefined;
  if (given !== undefined || nnodes === 1) return given;
  throw new ShardspeedError(
    "ERR_CONFIG",
    `SHARDSPEED_SECRET is not set. Set it to the same value on all ${nnodes} nodes, such as the output of openssl rand -hex 32`,
  );
}
