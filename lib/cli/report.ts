import { isError, ShardspeedError } from "../base/errors.js";

/** What the process exits with; docs/cli.md and --help say the same. */
export const exitCodes = { done: 0, failed: 1, usage: 2, interrupted: 130, terminated: 143 } as const;

/** Thrown where a command has been told to end by a signal: nothing is left to be said but the exit code. */
export class Interrupted extends Error {
  constructor(readonly exitCode: number) {
    super("The work was interrupted.");
  }
}

/** Says what went wrong, on the standard output for programs, else on the standard error, and sets the exit code. */
export async function reportError(error: unknown, json: boolean): Promise<void> {
  const { code, message, exitCode } = describe(error);
  process.exitCode = exitCode;
  if (json) process.stdout.write(`${JSON.stringify({ error: { code, message } })}\n`);
  else if (error instanceof Interrupted) process.stderr.write(process.stderr.isTTY ? "\n" : "");
  else process.stderr.write(`shardspeed: ${message} (${code})\n`);
}

function describe(error: unknown): { code: string; message: string; exitCode: number } {
  if (error instanceof Interrupted) return { code: "ERR_ABORTED", message: error.message, exitCode: error.exitCode };
  if (ShardspeedError.isInstance(error)) {
    const exitCode = error.code === "ERR_INVALID_ARGUMENT" ? exitCodes.usage : exitCodes.failed;
    return { code: error.code, message: error.message, exitCode };
  }
  const { code, syscall, message: reason } = error as NodeJS.ErrnoException;
  if (code !== undefined && syscall !== undefined) return { code, message: reason, exitCode: exitCodes.failed };
  // Not foreseen: here the stack is what helps.
  const message = `Unexpected failure, please report it: ${isError(error) ? error.stack : error}`;
  return { code: "ERR_UNEXPECTED", message, exitCode: exitCodes.failed };
}

/**
 * Runs work that SIGINT and SIGTERM end through its signal, whose reason is Interrupted then. A second one ends the process at once.
 *
 * @throws Interrupted in place of what the work threw after a signal.
 */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  let interrupted: Interrupted | undefined;
  const onInterrupt = () => stop(exitCodes.interrupted);
  const onTerminate = () => stop(exitCodes.terminated);
  const stop = (exitCode: number) => {
    process.removeListener("SIGINT", onInterrupt);
    process.removeListener("SIGTERM", onTerminate);
    interrupted = new Interrupted(exitCode);
    controller.abort(interrupted);
  };
  process.on("SIGINT", onInterrupt);
  process.on("SIGTERM", onTerminate);
  try {
    return await work(controller.signal);
  } catch (error) {
    throw interrupted ?? error;
  } finally {
    process.removeListener("SIGINT", onInterrupt);
    process.removeListener("SIGTERM", onTerminate);
  }
}
