import { type ChildProcess, spawn } from "node:child_process";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import type { RankTask } from "./rank_process.js";

const script = fileURLToPath(new URL("./rank_process.js", import.meta.url));

export interface RankEvent {
  event: string;
  code?: string;
  message?: string;
  cause?: string;
  greedy?: number[];
  seeded?: number[];
  ids?: number[];
  driver?: boolean;
  rank?: number;
  memory?: { weightBytes: number }[];
  afterMs?: number;
}

/** A rank's process, and what it has said. */
export class RankProcess {
  readonly events: RankEvent[] = [];
  readonly child: ChildProcess;
  readonly ended: Promise<{ code: number | null; signal: string | null }>;
  stderr = "";
  #changed: (() => void)[] = [];

  constructor(task: RankTask, variables: Record<string, string>) {
    this.child = spawn(process.execPath, [script, JSON.stringify(task)], {
      env: { ...process.env, ...variables },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let text = "";
    this.child.stdout?.on("data", (chunk) => {
      text += chunk;
      const lines = text.split("\n");
      text = lines.pop() as string;
      for (const line of lines) this.events.push(JSON.parse(line));
      for (const wake of this.#changed.splice(0)) wake();
    });
    this.child.stderr?.on("data", (chunk) => {
      this.stderr += chunk;
    });
    this.ended = new Promise((resolve) =>
      this.child.on("close", (code, signal) => {
        resolve({ code, signal });
        for (const wake of this.#changed.splice(0)) wake();
      }),
    );
  }

  /** The first event of this name; undefined where the process ends without. */
  async waitFor(name: string): Promise<RankEvent | undefined> {
    for (;;) {
      const found = this.events.find(({ event }) => event === name);
      if (found || this.child.exitCode !== null || this.child.signalCode !== null) return found;
      await new Promise<void>((resolve) => this.#changed.push(resolve));
    }
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  // Further ports after it are used where it is taken meanwhile.
  return Math.min(port, 65_500);
}

export async function launchVariables(worldSize: number): Promise<(rank: number) => Record<string, string>> {
  const port = await freePort();
  return (rank) => ({
    RANK: `${rank}`,
    LOCAL_RANK: `${rank}`,
    WORLD_SIZE: `${worldSize}`,
    LOCAL_WORLD_SIZE: `${worldSize}`,
    MASTER_ADDR: "127.0.0.1",
    MASTER_PORT: `${port}`,
    SHARDSPEED_SECRET: "the secret of the tests",
  });
}

/** Starts a process for each rank; `task` may differ by rank. */
export async function startRanks(worldSize: number, task: (rank: number) => RankTask): Promise<RankProcess[]> {
  const variables = await launchVariables(worldSize);
  return Array.from({ length: worldSize }, (_, rank) => new RankProcess(task(rank), variables(rank)));
}

/** Ends what is left of them: for the end of a test, whatever became of it. */
export async function endRanks(ranks: readonly RankProcess[]): Promise<void> {
  for (const rank of ranks) {
    rank.kill("SIGCONT");
    rank.kill("SIGKILL");
  }
  await Promise.all(ranks.map(({ ended }) => ended));
}
