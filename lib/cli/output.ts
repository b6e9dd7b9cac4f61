import { once } from "node:events";
import type { Logger } from "../base/logger.js";

/** Writes to a stream whose reader may go away (`| head`): then `closed` aborts, and writing does nothing. */
export class Output {
  readonly #stream: NodeJS.WriteStream;
  readonly #closed = new AbortController();
  #failure: Error | undefined;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
    stream.on("error", (error: NodeJS.ErrnoException) => {
      // A reader that has enough is no failure; a full disk is.
      if (error.code !== "EPIPE") this.#failure = error;
      this.#closed.abort();
    });
  }

  /** Aborts when nothing more can be written. */
  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  /** Resolves when the stream can take more. */
  async write(text: string): Promise<void> {
    if (this.closed.aborted || text === "") return;
    if (!this.#stream.write(text)) await once(this.#stream, "drain", { signal: this.closed }).catch(() => {});
    this.check();
  }

  /** Throws what kept the text from being written, but for a reader that went away. */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }
}

/** Messages on the standard error. */
export function stderrLogger({ quiet, verbose }: { quiet?: boolean; verbose?: boolean }): Logger {
  const say = (prefix: string) => (message: string) => {
    process.stderr.write(`shardspeed: ${prefix}${message}\n`);
  };
  const silent = () => {};
  return {
    debug: verbose ? say("") : silent,
    info: verbose ? say("") : silent,
    warn: quiet ? silent : say("warning: "),
    error: say("error: "),
  };
}

const barWidth = 30;

/** A progress bar. */
export interface ProgressBar {
  /** `verb`: what goes on now. Default: as the bar was made. */
  update(doneBytes: number, totalBytes: number, verb?: string): void;
  /** Takes it away again. */
  clear(): void;
}

/** A progress bar, on a terminal only: undefined elsewhere. `usualVerb` says what goes on. */
export function progressBar(stream: NodeJS.WriteStream, usualVerb = "Loading"): ProgressBar | undefined {
  if (!stream.isTTY) return undefined;
  const megabytes = (bytes: number) => (bytes / 1e6).toFixed(0);
  return {
    update(doneBytes, totalBytes, verb = usualVerb) {
      const filled = Math.round((totalBytes === 0 ? 1 : doneBytes / totalBytes) * barWidth);
      const bar = "█".repeat(filled) + "░".repeat(barWidth - filled);
      stream.write(`\r${verb} ${bar} ${megabytes(doneBytes)}/${megabytes(totalBytes)} MB\u001b[K`);
    },
    clear() {
      stream.write("\r\u001b[K");
    },
  };
}
