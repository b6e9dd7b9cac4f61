import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import type { Readable } from "node:stream";
import { isGroupAlive, sendSignal, signalGroup } from "./posix_group.js";

/** How a rank ended: by itself with a code, or by a signal. */
export interface RankExit {
  rank: number;
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** The exit code that a shell would give it. */
export function exitStatus({ code, signal }: RankExit): number {
  return signal === null ? (code ?? 0) : 128 + constants.signals[signal];
}

export interface RankCommand {
  command: string;
  args: readonly string[];
  environment: NodeJS.ProcessEnv;
  input: "inherit" | "ignore";
  output: "inherit" | "pipe";
}

/** The process of one rank. It leads a POSIX process group, in which what it starts is too unless that leaves the group. */
export class RankProcess {
  readonly rank: number;
  /** undefined where it could not be started. */
  readonly pid: number | undefined;
  /** Resolves when it has ended. */
  readonly exited: Promise<RankExit>;
  /** Rejects where it cannot be started, and `exited` never resolves then. */
  readonly started: Promise<void>;
  readonly #child: ChildProcess;
  /** Outlives the rank where its children do; undefined once nothing of it is left. */
  #group: number | undefined;
  #running: boolean;

  /** @throws What spawn() throws where it does not even try. */
  constructor(rank: number, { command, args, environment, input, output }: RankCommand) {
    const child = spawn(command, args, { env: environment, stdio: [input, output, output], detached: true });
    this.rank = rank;
    this.pid = child.pid;
    this.#child = child;
    this.#group = child.pid;
    this.#running = child.pid !== undefined;
    this.started = new Promise((resolve, reject) => {
      child.once("spawn", resolve);
      // Later errors are about signals that came too late.
      child.on("error", reject);
    });
    this.exited = new Promise((resolve) => {
      child.once("exit", (code, signal) => {
        this.#running = false;
        this.hasLeft(); // nobody else can have the group's number while anything of it is left
        resolve({ rank, code, signal });
      });
    });
  }

  /** What it writes, where that is piped. */
  outputs(): { name: "stdout" | "stderr"; source: Readable }[] {
    return (["stdout", "stderr"] as const).flatMap((name) => {
      const source = this.#child[name];
      return source === null ? [] : [{ name, source }];
    });
  }

  closeOutputs(): void {
    for (const { source } of this.outputs()) source.destroy();
  }

  /** To the rank and what it has started. */
  signalGroup(signal: NodeJS.Signals): void {
    if (this.#group !== undefined && !signalGroup(this.#group, signal)) this.#group = undefined;
  }

  /** To the rank alone. */
  signal(signal: NodeJS.Signals): void {
    if (this.#running && this.#group !== undefined) sendSignal(this.#group, signal);
  }

  /** Whether nothing of it and of what it has started runs any more. */
  hasLeft(): boolean {
    if (this.#group !== undefined && !isGroupAlive(this.#group)) this.#group = undefined;
    return this.#group === undefined;
  }
}
