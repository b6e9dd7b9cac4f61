import { invalidArgument } from "./errors.js";

/** Where messages go. `console` fits; pino does too. */
export interface Logger {
  debug(message: string): void;
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

/** Says nothing: a library does not write to a program's terminal unasked. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} };

/** @throws ShardspeedError ERR_INVALID_ARGUMENT for what is no logger; undefined is a silent one. */
export function readLogger(value: unknown): Logger {
  if (value === undefined) return silentLogger;
  const logger = value as Partial<Record<keyof Logger, unknown>> | null;
  for (const level of ["debug", "info", "warn", "error"] as const) {
    if (typeof logger?.[level] !== "function")
      throw invalidArgument("logger", "an object with debug, info, warn and error", value);
  }
  return value as Logger;
}
