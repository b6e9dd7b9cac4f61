import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { ShardspeedError } from "../base/errors.js";
import { exitStatus, type RankExit, RankProcess } from "./rank_process.js";

/** Takes what a rank writes until it ends, and says whether it waits for more or for whoever reads on. */
export type OutputTaker = (
  source: Readable,
  from: { rank: number; name: "stdout" | "stderr" },
  onWait: (waits: boolean) => void,
) => Promise<void>;

/** What is started. */
export interface RunPlan {
  /** The program and its arguments, the same for every rank. */
  command: string;
  args: readonly string[];
  /** Ranks of this host. */
  ranks: readonly number[];
  /** What a rank finds in its environment. */
  environment(rank: number): NodeJS.ProcessEnv;
  /** What rank 0 reads. Others read nothing. */
  input: "inherit" | "ignore";
  /** "inherit": the ranks have this process's own outputs. */
  output: "inherit" | OutputTaker;
  /** Milliseconds from SIGTERM to SIGKILL, once a rank has failed. */
  graceMs: number;
}

export interface RunListener {
  started(rank: number, pid: number): void;
  exited(exit: RankExit): void;
  /** The first rank that failed: the others are ended next. */
  failed(exit: RankExit): void;
}

/** How often groups are looked at that have outlived their rank. */
const pollMs = 50;
/** How long a group may take to vanish after SIGKILL before it is given up: a process may hang in the kernel. */
const killedMs = 2000;
/** How long output is still waited for from somebody who has left the process groups of the ranks but kept their output. */
const strayOutputMs = 1000;

/**
 * How long ranks that have been sent a signal to end by may take with it, once one of them has ended, before they are sent SIGTERM too: of two
 * signals that wait for a busy process the later one may be handled first.
 */
const signalledMs = 250;
const endingSignals: readonly NodeJS.Signals[] = ["SIGINT", "SIGQUIT", "SIGHUP", "SIGTERM"];

/** Runs of this process that have not ended: whatever ends it, their ranks do not stay. */
const running = new Set<RankRun>();

function killRunning(): void {
  for (const run of running) run.kill();
}

/** The processes of a group of ranks, from their start to the end of all of them: they end together. */
export class RankRun {
  readonly #plan: RunPlan;
  readonly #listener: RunListener;
  readonly #ranks: RankProcess[] = [];
  readonly #outputs: Promise<void>[] = [];
  /** Outputs that have not ended, and those of them that nothing has come from which is still to be passed on. */
  #openOutputs = 0;
  #silentOutputs = 0;
  #failed: RankExit | undefined;
  #startError: Error | undefined;
  /** Whether ranks have been sent a signal to end by, besides that of stop(). */
  #signalled = false;
  #stopTimer: NodeJS.Timeout | undefined;
  #ending = false;
  #killed = false;
  #dropsOutput = false;
  #killTimer: { at: number; timer: NodeJS.Timeout } | undefined;
  /** Resolves when nothing is left of the ranks: with the one that failed first, undefined where none did. Never rejects. */
  readonly ended: Promise<RankExit | undefined>;
  /** Resolves when all ranks have been started; where one cannot be, it rejects when the others have ended. */
  readonly started: Promise<void>;

  constructor(plan: RunPlan, listener: RunListener) {
    this.#plan = plan;
    this.#listener = listener;
    if (running.size === 0) process.on("exit", killRunning);
    running.add(this);
    const all = plan.ranks.map((rank) => this.#start(rank));
    this.ended = this.#end(all.map(({ exited }) => exited)).then(() => this.#failed);
    this.started = Promise.all(all.map(({ started }) => started)).then(async () => {
      if (this.#startError === undefined) return;
      await this.ended;
      throw this.#startError;
    });
    this.started.catch(() => {}); // of interest to some only
  }

  /** Sends a signal to the ranks alone, or also to all that they have started. */
  signal(signal: NodeJS.Signals, to: "ranks" | "groups"): void {
    this.#signalled ||= endingSignals.includes(signal);
    for (const rank of this.#ranks) {
      if (to === "groups") rank.signalGroup(signal);
      else rank.signal(signal);
    }
  }

  /** SIGTERM to all that is left, and SIGKILL later. */
  stop(graceMs: number = this.#plan.graceMs): void {
    if (!this.#ending) {
      this.#ending = true;
      this.signal("SIGTERM", "groups");
      // A stopped process takes no signal but SIGKILL before it goes on.
      this.signal("SIGCONT", "groups");
    }
    this.killAfter(graceMs);
  }

  /** SIGKILL to all that is left after so many milliseconds, or earlier where that was said before. */
  killAfter(graceMs: number): void {
    const ms = Math.min(graceMs, 2 ** 31 - 1);
    const at = performance.now() + ms;
    if (this.#killTimer !== undefined && this.#killTimer.at <= at) return;
    clearTimeout(this.#killTimer?.timer);
    const kill = () => {
      this.#killed = true;
      this.signal("SIGKILL", "groups");
    };
    this.#killTimer = { at, timer: setTimeout(kill, ms) };
  }

  /** SIGKILL to all that is left, now; what they have written and nobody has read yet is dropped. */
  kill(): void {
    this.#ending = true;
    this.#killed = true;
    this.#dropsOutput = true;
    this.signal("SIGKILL", "groups");
  }

  #start(rank: number): { started: Promise<void>; exited: Promise<void> } {
    const { command, args, environment, input, output } = this.#plan;
    const fail = (error: Error) => {
      this.#startError ??= describeStart(command, rank, error);
      this.stop();
    };
    if (this.#ending) return { started: Promise.resolve(), exited: Promise.resolve() };
    let child: RankProcess;
    try {
      child = new RankProcess(rank, {
        command,
        args,
        environment: environment(rank),
        input: rank === 0 ? input : "ignore",
        output: output === "inherit" ? "inherit" : "pipe",
      });
    } catch (error) {
      fail(error as Error);
      return { started: Promise.resolve(), exited: Promise.resolve() };
    }
    this.#ranks.push(child);
    if (output !== "inherit") {
      for (const { name, source } of child.outputs()) this.#outputs.push(this.#take(output, source, { rank, name }));
    }
    const started = child.started.then(() => this.#listener.started(rank, child.pid as number), fail);
    const exited = started.then(async () => {
      if (child.pid !== undefined) this.#note(await child.exited);
    });
    return { started, exited };
  }

  async #take(output: OutputTaker, source: Readable, from: { rank: number; name: "stdout" | "stderr" }): Promise<void> {
    let waits = false;
    this.#openOutputs++;
    const count = (now: boolean) => {
      this.#silentOutputs += Number(now) - Number(waits);
      waits = now;
    };
    try {
      await output(source, from, count);
    } catch {
      // Cut off below, where its end is not waited for.
    } finally {
      count(false);
      this.#openOutputs--;
    }
  }

  #note(exit: RankExit): void {
    this.#listener.exited(exit);
    if (exitStatus(exit) === 0 || this.#ending || this.#failed !== undefined) return;
    this.#failed = exit;
    this.#listener.failed(exit);
    if (this.#signalled) this.#stopTimer = setTimeout(() => this.stop(), signalledMs);
    else this.stop();
  }

  async #end(exits: Promise<void>[]): Promise<void> {
    try {
      await Promise.all(exits);
      await this.#sweep();
      await this.#drain();
    } finally {
      clearTimeout(this.#stopTimer);
      clearTimeout(this.#killTimer?.timer);
      this.signal("SIGKILL", "groups");
      running.delete(this);
      if (running.size === 0) process.removeListener("exit", killRunning);
    }
  }

  /** Ends what the ranks have started and left behind. */
  async #sweep(): Promise<void> {
    const isLeft = () => this.#ranks.filter((rank) => !rank.hasLeft()).length > 0;
    if (!isLeft()) return;
    this.stop();
    for (let killedFor = 0; isLeft() && killedFor < killedMs; await sleep(pollMs)) {
      if (this.#killed) killedFor += pollMs;
    }
  }

  /** Waits for the output that is still to be passed on, however slowly it is read. */
  async #drain(): Promise<void> {
    const finished = new AbortController();
    void Promise.all(this.#outputs).then(() => finished.abort());
    for (
      let silentMs = 0;
      silentMs < strayOutputMs && this.#openOutputs > 0 && !this.#dropsOutput;
      silentMs += pollMs
    ) {
      await sleep(pollMs, undefined, { signal: finished.signal }).catch(() => {});
      if (this.#silentOutputs < this.#openOutputs) silentMs = 0;
    }
    for (const rank of this.#ranks) rank.closeOutputs();
  }
}

function describeStart(command: string, rank: number, error: Error): Error {
  const { code } = error as NodeJS.ErrnoException;
  if (code === "ENOENT" || code === "EACCES" || code === "ENOEXEC") {
    const reason = code === "ENOENT" ? "there is no such program" : `it cannot be executed (${code})`;
    return new ShardspeedError("ERR_INVALID_ARGUMENT", `Cannot start ${command}: ${reason}`, { cause: error });
  }
  return new ShardspeedError("ERR_COMM", `Rank ${rank} could not be started (${command}): ${error.message}`, {
    cause: error,
  });
}
