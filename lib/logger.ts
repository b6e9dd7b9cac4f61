/** Where messages go. `console` fits; pino does too. */
export interface Logger {
  debug(message: string): void;
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

/** Says nothing: a library does not write to a program's terminal unasked. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} };
