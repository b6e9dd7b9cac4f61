import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

export const meetingRank = fileURLToPath(new URL("meeting_rank.js", import.meta.url));
const command = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

export interface Outcome {
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface Running {
  child: ChildProcess;
  /** What it has written until now. */
  written: { stdout: string; stderr: string };
  ended: Promise<Outcome>;
}

/** Starts a program with an environment that has no launcher's variables but those given. */
export function startProgram(
  program: string,
  args: string[],
  environment: NodeJS.ProcessEnv = {},
  input = "",
): Running {
  const child = spawn(program, args, {
    env: { ...plainEnvironment(), ...environment },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const written = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      written[name] += text;
    });
  }
  // A program that does not read its input may be gone before it is written.
  child.stdin.on("error", () => {}).end(input);
  const ended = new Promise<Outcome>((resolve, reject) => {
    child.on("error", reject).on("close", (status, signal) => resolve({ status, signal, ...written }));
  });
  return { child, written, ended };
}

/** Starts `shardspeed run`. */
export function startRun(args: string[], environment: NodeJS.ProcessEnv = {}, input = ""): Running {
  return startProgram(process.execPath, [command, "run", ...args], environment, input);
}

export function plainEnvironment(): NodeJS.ProcessEnv {
  const launchers =
    /^(SLURM|OMPI|PMI|PMIX|MPI|TORCHELASTIC|SHARDSPEED)_|^(RANK|WORLD_SIZE|LOCAL_RANK|LOCAL_WORLD_SIZE)$|^MASTER_/;
  const colors = /^(FORCE_COLOR|NO_COLOR)$/;
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !launchers.test(name) && !colors.test(name)),
  );
}

export async function waitFor(condition: () => boolean, what: string): Promise<void> {
  for (let waits = 0; !condition(); waits++) {
    if (waits > 1500) throw new Error(`${what}: this did not happen within 30 s`);
    await sleep(20);
  }
}

/** Whether a process runs; one that has ended but that nobody has asked for its code does not. */
export function isRunning(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(")") + 2));
  } catch {
    return false;
  }
}

/** The processes that were started with this in their environment. */
export function findMarked(marker: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        return readFileSync(`/proc/${name}/environ`, "latin1").includes(marker);
      } catch {
        return false;
      }
    })
    .map(Number)
    .filter(isRunning);
}
