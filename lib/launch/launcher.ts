import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { ShardspeedError } from "../base/errors.js";
import { formatPrefix, forwardLines, Sink, wantsColor } from "./lines.js";
import { isGroupAlive, sendSignal, signalGroup } from "./posix_group.js";

/** What `shardspeed run` starts. */
export interface LaunchPlan {
  /** The program and its arguments, the same for every rank. */
  command: string;
  args: string[];
  /** Ranks of this host. */
  ranks: number[];
  /** What a rank finds in its environment. */
  environment(rank: number): NodeJS.ProcessEnv;
  /** Before each line of output which rank it is from; else the ranks have this process's output itself. */
  prefix: boolean;
  /** Between SIGTERM and SIGKILL, once a rank has failed. */
  graceMs: number;
}

interface Rank {
  rank: number;
  child: ChildProcess;
  /** Its process group, which outlives it where its children do; undefined once nothing of it is left. */
  group: number | undefined;
  running: boolean;
  /** Resolve when its output has been passed on. */
  outputs: Promise<unknown>[];
}

/** How often groups are looked at that have outlived their rank. */
const pollMs = 50;
/** How long a group may take to vanish after SIGKILL before it is given up: a process may hang in the kernel. */
const killedMs = 2000;
/** How long output is still waited for from somebody who has left the process groups of the ranks but kept their output. */
const strayOutputMs = 1000;

// A terminal sends these to the whole foreground group, which the ranks are not in.
const groupSignals = ["SIGINT", "SIGQUIT", "SIGHUP", "SIGCONT"] as const;
const processSignals = ["SIGTERM", "SIGUSR1", "SIGUSR2", "SIGWINCH"] as const;
const endingSignals: readonly NodeJS.Signals[] = ["SIGINT", "SIGQUIT", "SIGHUP", "SIGTERM"];

/** Starts the ranks and waits until all have ended. @returns the exit code: 0, or that of the rank that failed first */
export async function launch(plan: LaunchPlan): Promise<number> {
  return new Launch(plan).run();
}

class Launch {
  readonly #plan: LaunchPlan;
  readonly #sinks: { stdout: Sink; stderr: Sink };
  readonly #ranks: Rank[] = [];
  /** Outputs of ranks that have not ended, and those of them that nothing has come from which is still to be passed on. */
  #openSources = 0;
  #silentSources = 0;
  #exitCode = 0;
  #startError: Error | undefined;
  #ending = false;
  #killed = false;
  #killTimer: NodeJS.Timeout | undefined;
  /** A signal that was passed on: what ranks end with is no surprise then. */
  #told: NodeJS.Signals | undefined;
  #interrupts = 0;

  constructor(plan: LaunchPlan) {
    this.#plan = plan;
    this.#sinks = { stdout: new Sink(process.stdout), stderr: new Sink(process.stderr) };
  }

  async run(): Promise<number> {
    const stopListening = this.#listen();
    const killAll = () => this.#signalGroups("SIGKILL");
    // Whatever ends this process, the ranks do not stay.
    process.once("exit", killAll);
    try {
      const ended = this.#plan.ranks.map((rank) => this.#start(rank));
      await Promise.all(ended);
      await this.#sweep();
      await this.#drain();
    } finally {
      clearTimeout(this.#killTimer);
      killAll();
      process.removeListener("exit", killAll);
      stopListening();
    }
    if (this.#startError !== undefined) throw this.#startError;
    return this.#exitCode;
  }

  /** Resolves when the rank has ended, or could not be started. */
  async #start(rank: number): Promise<void> {
    if (this.#ending) return;
    const { command, args, environment, prefix } = this.#plan;
    const output = prefix ? "pipe" : "inherit";
    let child: ChildProcess;
    try {
      child = spawn(command, args, {
        env: environment(rank),
        stdio: [rank === 0 ? "inherit" : "ignore", output, output],
        detached: true,
      });
    } catch (error) {
      this.#fail(rank, error as Error);
      return;
    }
    const entry: Rank = { rank, child, group: child.pid, running: child.pid !== undefined, outputs: [] };
    this.#ranks.push(entry);
    for (const name of ["stdout", "stderr"] as const) {
      if (child[name] !== null) entry.outputs.push(this.#forward(entry, name));
    }
    await new Promise<void>((resolve) => {
      child.once("error", (error) => {
        // Later errors are about signals that came too late.
        if (child.pid === undefined) this.#fail(rank, error);
        resolve();
      });
      child.once("exit", (code, signal) => {
        entry.running = false;
        // Nobody else can have the number while anything of the group is left.
        if (entry.group !== undefined && !isGroupAlive(entry.group)) entry.group = undefined;
        this.#note(rank, code, signal);
        resolve();
      });
    });
  }

  async #forward({ rank, child }: Rank, name: "stdout" | "stderr"): Promise<void> {
    const source = child[name];
    if (source === null) return;
    let waits = false;
    this.#openSources++;
    const count = (now: boolean) => {
      this.#silentSources += Number(now) - Number(waits);
      waits = now;
    };
    try {
      const prefix = formatPrefix(rank, wantsColor(process[name], process.env));
      await forwardLines(source, this.#sinks[name], prefix, count);
    } catch {
      // Cut off below, where its end is not waited for.
    } finally {
      count(false);
      this.#openSources--;
    }
  }

  #note(rank: number, code: number | null, signal: NodeJS.Signals | null): void {
    if (code === 0) return;
    const status = signal === null ? (code as number) : 128 + constants.signals[signal];
    if (this.#ending || this.#exitCode !== 0) return;
    this.#exitCode = status;
    if (this.#told === undefined) {
      const others = this.#plan.ranks.length > 1 ? "; ending the others" : "";
      this.#say(
        `rank ${rank} ${signal === null ? `failed with exit code ${code}` : `was ended by ${signal}`}${others}`,
      );
    }
    this.#end();
  }

  #fail(rank: number, error: Error): void {
    this.#startError ??= describeStart(this.#plan.command, rank, error);
    this.#end();
  }

  /** SIGTERM to all that is left, and SIGKILL after the grace time. */
  #end(): void {
    if (this.#ending) return;
    this.#ending = true;
    this.#signalGroups("SIGTERM");
    // A stopped process takes no signal but SIGKILL before it goes on.
    this.#signalGroups("SIGCONT");
    this.#killLater();
  }

  #killLater(): void {
    this.#killTimer ??= setTimeout(() => this.#kill(), Math.min(this.#plan.graceMs, 2 ** 31 - 1));
  }

  #kill(): void {
    this.#killed = true;
    this.#signalGroups("SIGKILL");
  }

  #signalGroups(signal: NodeJS.Signals): void {
    for (const entry of this.#ranks) {
      if (entry.group !== undefined && !signalGroup(entry.group, signal)) entry.group = undefined;
    }
  }

  /** Ends what the ranks have started and left behind. */
  async #sweep(): Promise<void> {
    const isLeft = () => {
      for (const entry of this.#ranks) {
        if (entry.group !== undefined && !isGroupAlive(entry.group)) entry.group = undefined;
      }
      return this.#ranks.some((entry) => entry.group !== undefined);
    };
    if (!isLeft()) return;
    this.#end();
    for (let killedFor = 0; isLeft() && killedFor < killedMs; await sleep(pollMs)) {
      if (this.#killed) killedFor += pollMs;
    }
  }

  /** Waits for the output that is still to be passed on, however slowly it is read. */
  async #drain(): Promise<void> {
    const outputs = Promise.all(this.#ranks.flatMap((entry) => entry.outputs));
    const finished = new AbortController();
    void outputs.then(() => finished.abort());
    for (
      let silentMs = 0;
      silentMs < strayOutputMs && this.#openSources > 0 && !this.#killedByUser;
      silentMs += pollMs
    ) {
      await sleep(pollMs, undefined, { signal: finished.signal }).catch(() => {});
      if (this.#silentSources < this.#openSources) silentMs = 0;
    }
    for (const { child } of this.#ranks) {
      child.stdout?.destroy();
      child.stderr?.destroy();
    }
  }

  get #killedByUser(): boolean {
    return this.#interrupts > 1;
  }

  /** Passes signals on. @returns what stops that */
  #listen(): () => void {
    const listeners: [NodeJS.Signals, () => void][] = [];
    const on = (signal: NodeJS.Signals, listener: () => void) => {
      process.on(signal, listener);
      listeners.push([signal, listener]);
    };
    for (const signal of groupSignals) {
      on(signal, () => {
        this.#remember(signal);
        if (signal === "SIGINT" && ++this.#interrupts > 1) this.#interruptAgain();
        else this.#signalGroups(signal);
      });
    }
    for (const signal of processSignals) {
      on(signal, () => {
        this.#remember(signal);
        for (const entry of this.#ranks)
          if (entry.running && entry.group !== undefined) sendSignal(entry.group, signal);
        // Whoever ends this process counts on its end.
        if (signal === "SIGTERM") this.#killLater();
      });
    }
    // The ranks cannot be stopped by a terminal that is not theirs; then this process stops as it would have.
    on("SIGTSTP", () => {
      this.#signalGroups("SIGSTOP");
      process.kill(process.pid, "SIGSTOP");
    });
    return () => {
      for (const [signal, listener] of listeners) process.removeListener(signal, listener);
    };
  }

  #remember(signal: NodeJS.Signals): void {
    if (endingSignals.includes(signal)) this.#told = signal;
  }

  #interruptAgain(): void {
    this.#ending = true;
    this.#exitCode = 128 + constants.signals.SIGINT;
    this.#kill();
  }

  #say(message: string): void {
    void this.#sinks.stderr.write(Buffer.from(`shardspeed: ${message}\n`));
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
