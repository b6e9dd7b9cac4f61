import { invalidArgument } from "./errors.js";

/** Receives messages: `console`, pino and similar loggers fit. */
export interface Logger {
  /** What helps to find a fault. */
  debug(message: string): void;
  /** What went well, such as a loaded model. */
  info(message: string): void;
  /** What may not be meant, with what to do. */
  warn(message: string): void;
  /** What went wrong and rejects no call. */
  error(message: string): void;
}

/** The default logger, which is silent. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} };

/**
 * A logger for what runs outside of its caller's stack, such as the handler of an event: there an error of the logger would end the process.
 *
 * @param onThrow Receives that error, and ends the call that the logger was given to.
 */
export function guardLogger(logger: Logger, onThrow: (error: unknown) => void): Logger {
  const guarded = (level: keyof Logger) => (message: string) => {
    try {
      logger[level](message);
    } catch (error) {
      onThrow(error);
    }
  };
  return { debug: guarded("debug"), info: guarded("info"), warn: guarded("warn"), error: guarded("error") };
}

/** @throws ShardspeedError ERR_INVALID_ARGUMENT for an invalid logger; undefined is the silent one. */
export function readLogger(value: unknown): Logger {
  if (value === undefined) return silentLogger;
  const logger = value as Partial<Record<keyof Logger, unknown>> | null;
  for (const level of ["debug", "info", "warn", "error"] as const) {
    if (typeof logger?.[level] !== "function")
      throw invalidArgument("logger", "an object with debug, info, warn and error", value);
  }
  return settleLogger(value as Logger);
}

/** A logger whose methods may be async functions: that one of these rejects is nobody's concern, and must not end the process. */
export function settleLogger(logger: Logger): Logger {
  const settled = (level: keyof Logger) => (message: string) => {
    const result: unknown = logger[level](message);
    // Of whatever realm or library the promise is.
    if (typeof (result as PromiseLike<unknown> | undefined)?.then === "function")
      Promise.resolve(result as PromiseLike<unknown>).catch(() => {});
  };
  return { debug: settled("debug"), info: settled("info"), warn: settled("warn"), error: settled("error") };
}
