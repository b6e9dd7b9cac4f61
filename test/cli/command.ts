import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../../", import.meta.url));
export const demo = fileURLToPath(new URL("../../models/demo", import.meta.url));

export interface Outcome {
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** A running `shardspeed` and its end. */
export interface Running {
  child: ChildProcessWithoutNullStreams;
  ended: Promise<Outcome>;
  /** Resolves at the first output. */
  wrote: Promise<void>;
}

export function start(args: string[], environment: NodeJS.ProcessEnv = {}): Running {
  const command = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
  const child = spawn(process.execPath, [command, ...args], { env: { ...process.env, ...environment } });
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      output[name] += text;
    });
  }
  const wrote = new Promise<void>((resolve) => child.stdout.once("data", () => resolve()));
  const ended = new Promise<Outcome>((resolve, reject) => {
    child.on("error", reject).on("close", (status, signal) => resolve({ status, signal, ...output }));
  });
  return { child, ended, wrote };
}

/** Runs `shardspeed` to its end with a standard input. */
export function run(args: string[], input = "", environment: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  const { child, ended } = start(args, environment);
  // A command that does not read its input may be gone before it is written.
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  return ended;
}
