import { randomBytes } from "node:crypto";
import { EventEmitter } from "node:events";
import { createServer } from "node:net";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { OptionReader } from "../base/option_reader.js";
import { maxWorldSize } from "./environment.js";
import { readLines } from "./lines.js";
import type { RankExit } from "./rank_process.js";
import { type OutputTaker, RankRun, type RunPlan } from "./rank_run.js";

export interface RankSetOptions {
  /** A script for Node, or with `node: false` any program: the same for every rank. */
  program: string;
  args?: readonly string[];
  /** Default true. */
  node?: boolean;
  /** Ranks to start on this host. */
  count: number;
  /** Ranks on all hosts. Default: count. */
  worldSize?: number;
  /** Number of the first rank of this host. Default 0. */
  firstRank?: number;
  /** Where rank 0 is found. Default "127.0.0.1". */
  masterAddr?: string;
  /** Default: one that is free, found at each start. */
  masterPort?: number;
  /** By which the ranks know each other. Default: a new one at each start; ranks on several hosts need one. */
  secret?: string;
  /** What ranks find in their environment besides. Default: this process's. */
  environment?: NodeJS.ProcessEnv;
  /** What rank 0 reads: nothing, which is the default, or this process's input. */
  input?: "inherit" | "ignore";
  /** "lines", which is the default, tells what ranks write by events; "inherit" gives them this process's outputs. */
  output?: "lines" | "inherit" | OutputTaker;
  /** Milliseconds from SIGTERM to SIGKILL where ranks are ended. Default 10,000. */
  graceMs?: number;
}

const optionNames = [
  ...["program", "args", "node", "count", "worldSize", "firstRank", "masterAddr", "masterPort", "secret"],
  ...["environment", "input", "output", "graceMs"],
] as const satisfies (keyof RankSetOptions)[];

/** A line that a rank has written. */
export interface RankLine {
  rank: number;
  name: "stdout" | "stderr";
  /** Without its end. */
  text: string;
}

interface RankSetEvents {
  /** A rank runs. */
  started: [rank: number, pid: number];
  /** A rank has written a line; with `output: "lines"` only. */
  line: [line: RankLine];
  /** A rank has ended, however that came. */
  exited: [exit: RankExit];
  /** A rank has failed without having been told to end: the others are ended next. */
  failed: [exit: RankExit];
  /** Nothing of the ranks is left; the set may be started again. With the rank that failed first, if one did. */
  ended: [failed: RankExit | undefined];
}

/** What a launcher around this process has said to it, and not to the ranks. */
const foreignVariables: readonly string[] = ["TORCHELASTIC_RUN_ID", "TORCHELASTIC_USE_AGENT_STORE"];
const defaultGraceMs = 10_000;

/**
 * The ranks of a group as processes of this host: starts them with the variables that a launcher sets, says what becomes of them, and ends them.
 * When one fails the others end too, as none of them could go on. A set may be started again when it has ended. Several sets may run in one
 * process: they leave its signals, its outputs and its exit code alone. Only its end they see, so that no rank outlives it.
 */
export class RankSet extends EventEmitter<RankSetEvents> {
  readonly #options: RankSetOptions;
  #run: RankRun | undefined;
  #starting: Promise<void> | undefined;
  #ended: Promise<RankExit | undefined> = Promise.resolve(undefined);
  #stopped = false;

  /** @throws ShardspeedError ERR_INVALID_ARGUMENT; ERR_CONFIG for ranks on several hosts without a secret. */
  constructor(options: RankSetOptions) {
    super();
    const reader = new OptionReader("RankSet option", options, optionNames);
    const { program, count, secret } = options ?? {};
    if (reader.text("program", undefined) === undefined) throw invalidArgument("program", "a path", program);
    if (reader.integer("count", 1, maxWorldSize, undefined) === undefined)
      throw invalidArgument("count", "an integer of at least 1", count);
    const firstRank = reader.integer("firstRank", 0, maxWorldSize, 0);
    const worldSize = reader.integer("worldSize", firstRank + count, maxWorldSize, firstRank + count);
    reader.integer("masterPort", 1, 65535, undefined);
    reader.number("graceMs", { minimum: 0 }, undefined);
    if (worldSize > count && !secret) {
      throw new ShardspeedError(
        "ERR_CONFIG",
        `The ${worldSize} ranks are on several hosts, and have no shared secret.`,
      );
    }
    this.#options = options;
  }

  /** Whether ranks run or are being started. */
  get isRunning(): boolean {
    return this.#starting !== undefined || this.#run !== undefined;
  }

  /** Resolves when nothing of the ranks is left, with the one that failed first, if one did. Never rejects. */
  get ended(): Promise<RankExit | undefined> {
    // Before there are ranks a start may still look for a port.
    const settled = this.#starting?.catch(() => {});
    return settled === undefined ? this.#ended : settled.then(() => this.#ended);
  }

  /**
   * Starts the ranks. Where masterPort is given they are there when the call returns, before it resolves.
   *
   * @throws ShardspeedError ERR_INVALID_ARGUMENT for a program that cannot be executed, ERR_COMM where a rank cannot be started; then nothing
   * is left running. ERR_INVALID_ARGUMENT too where the ranks run already.
   */
  start(): Promise<void> {
    if (this.isRunning)
      return Promise.reject(new ShardspeedError("ERR_INVALID_ARGUMENT", "The ranks run already: stop them first."));
    this.#stopped = false;
    this.#starting = this.#start().finally(() => {
      this.#starting = undefined;
    });
    return this.#starting;
  }

  /** Sends a signal to the ranks alone, or also to all that they have started ("groups"). */
  signal(signal: NodeJS.Signals, to: "ranks" | "groups"): void {
    this.#run?.signal(signal, to);
  }

  /**
   * Ends the ranks and what they have started: SIGTERM, and SIGKILL to what is left after graceMs.
   *
   * @returns When nothing is left. A process that hangs in the kernel is given up two seconds after SIGKILL.
   */
  async stop(graceMs: number = this.#options.graceMs ?? defaultGraceMs): Promise<void> {
    this.#stopped = true;
    this.#run?.stop(graceMs);
    await this.#starting?.catch(() => {}); // whoever started hears of it
    await this.#ended;
  }

  /** SIGKILL to all that is left after so many milliseconds. */
  killAfter(graceMs: number): void {
    this.#run?.killAfter(graceMs);
  }

  /** SIGKILL to all that is left, now. What they have written and nobody has read yet is dropped. */
  kill(): void {
    this.#stopped = true;
    this.#run?.kill();
  }

  async #start(): Promise<void> {
    const port = this.#options.masterPort ?? (await findFreePort());
    if (this.#stopped) throw new ShardspeedError("ERR_ABORTED", "The ranks were stopped before they were started.");
    const run = new RankRun(this.#plan(port), {
      started: (rank, pid) => this.#tell("started", rank, pid),
      exited: (exit) => this.#tell("exited", exit),
      failed: (exit) => this.#tell("failed", exit),
    });
    this.#run = run;
    this.#ended = run.ended.then((failed) => {
      this.#run = undefined;
      this.#tell("ended", failed);
      return failed;
    });
    await run.started;
  }

  #plan(port: number): RunPlan {
    const { program, args = [], node = true, count, firstRank = 0 } = this.#options;
    const { worldSize = firstRank + count, masterAddr = "127.0.0.1" } = this.#options;
    const { secret = randomBytes(32).toString("hex"), environment = process.env } = this.#options;
    const { input = "ignore", output = "lines", graceMs = defaultGraceMs } = this.#options;
    const base = Object.fromEntries(Object.entries(environment).filter(([name]) => !foreignVariables.includes(name)));
    const shared = {
      WORLD_SIZE: String(worldSize),
      LOCAL_WORLD_SIZE: String(count),
      MASTER_ADDR: masterAddr,
      MASTER_PORT: String(port),
      SHARDSPEED_SECRET: secret,
      SHARDSPEED_LAUNCHER: "run",
      ...(node ? { SHARDSPEED_WATCHED_LAUNCHER: String(process.pid) } : {}),
    };
    return {
      ...(node ? toNodeCommand(program, args) : { command: program, args }),
      ranks: Array.from({ length: count }, (_, index) => firstRank + index),
      environment: (rank) => ({ ...base, ...shared, RANK: String(rank), LOCAL_RANK: String(rank - firstRank) }),
      input,
      output: output === "lines" ? this.#tellLines : output,
      graceMs,
    };
  }

  readonly #tellLines: OutputTaker = async (source, from, onWait) => {
    for await (const lines of readLines(source, onWait)) {
      for (const line of lines) this.#tell("line", { ...from, text: line.toString("utf8") });
    }
  };

  /** A listener that throws is its own matter: the ranks are looked after all the same. */
  #tell<Name extends keyof RankSetEvents>(name: Name, ...values: RankSetEvents[Name]): void {
    try {
      (this as EventEmitter).emit(name, ...values);
    } catch (error) {
      process.nextTick(() => {
        throw error;
      });
    }
  }
}

/** With this process's own options for Node, and with what ends the rank when this process is gone. */
function toNodeCommand(script: string, args: readonly string[]): { command: string; args: string[] } {
  const watch = fileURLToPath(new URL("watch.js", import.meta.url));
  const options = [...process.execArgv, "--import", pathToFileURL(watch).href];
  return { command: process.execPath, args: [...options, path.resolve(script), ...args] };
}

/** A port of this host that is free now, with room for those after it, which rank 0 tries too. */
export function findFreePort(): Promise<number> {
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
