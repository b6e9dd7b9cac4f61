import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

export const root = fileURLToPath(new URL("../../", import.meta.url));

export interface Outcome {
  status: number;
  stdout: string;
  stderr: string;
}

/** Runs a program to its end, whatever its exit status; throws where it cannot be started. */
export async function runProgram(
  command: string,
  args: string[],
  folder: string,
  environment: NodeJS.ProcessEnv = {},
): Promise<Outcome> {
  const options = {
    cwd: folder,
    env: { ...cleanEnvironment(), ...environment },
    maxBuffer: 64 * 2 ** 20,
    timeout: 300_000,
  };
  try {
    return { status: 0, ...(await promisify(execFile)(command, args, options)) };
  } catch (error) {
    const { code, stdout, stderr } = error as { code?: unknown; stdout: string; stderr: string };
    if (typeof code !== "number") throw error;
    return { status: code, stdout, stderr };
  }
}

/** Runs npm and gives what it wrote to stdout. */
export async function runNpm(args: string[], folder: string): Promise<string> {
  const npm = process.env.npm_execpath;
  const [command, first] = npm?.endsWith(".js") ? [process.execPath, [npm]] : ["npm", []];
  const outcome = await runProgram(command, [...first, ...args], folder);
  if (outcome.status !== 0) throw new Error(`npm ${args.join(" ")} failed:\n${outcome.stdout}\n${outcome.stderr}`);
  return outcome.stdout;
}

/** What npm tells the scripts of this package about this package is not meant for the one under test. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const own =
    /^npm_(package|lifecycle|config_local_prefix|config_ignore_scripts|command)|^(SHARDSPEED_BINDING|INIT_CWD)$/;
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !own.test(name)));
}

export async function makeTemporaryFolder(): Promise<{ folder: string; remove: () => Promise<void> }> {
  const folder = await mkdtemp(path.join(tmpdir(), "shardspeed-test-"));
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) };
}
