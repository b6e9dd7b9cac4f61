import type { Readable, Writable } from "node:stream";
import { readLines } from "../launch/lines.js";

/** A stream that several sources write whole lines to, and whose reader may go away (`| head`): then writing does nothing. */
export class Sink {
  readonly #stream: Writable;
  #waiting: (() => void)[] = [];
  #closed = false;

  constructor(stream: Writable) {
    this.#stream = stream;
    stream.on("drain", () => this.#wake());
    stream.on("error", () => {
      this.#closed = true;
      this.#wake();
    });
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Resolves when the stream can take more. */
  async write(bytes: Buffer): Promise<void> {
    if (this.#closed || this.#stream.write(bytes)) return;
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

/**
 * Passes lines on, each at once with what stands before it. The source is read no faster than the sink takes it, and is closed where nobody
 * reads the sink.
 *
 * @param onWait As that of readLines().
 */
export async function forwardLines(
  source: Readable,
  sink: Sink,
  prefix: string,
  onWait?: (waits: boolean) => void,
): Promise<void> {
  const start = Buffer.from(prefix);
  const end = Buffer.from("\n");
  for await (const lines of readLines(source, onWait)) {
    await sink.write(Buffer.concat(lines.flatMap((line) => [start, line, end])));
    if (sink.closed) break;
  }
}

// Bright ones after the plain ones; no red, which stands for errors, and nothing that a black or a white terminal swallows.
const colors = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

/** What stands before the lines of a rank. */
export function formatPrefix(rank: number, colored: boolean): string {
  return colored ? `\u001b[${colors[rank % colors.length]}m[rank ${rank}]\u001b[0m ` : `[rank ${rank}] `;
}

/** FORCE_COLOR decides where it is set, then NO_COLOR, then whether a terminal reads. */
export function wantsColor(stream: { isTTY?: boolean }, env: NodeJS.ProcessEnv): boolean {
  const forced = env.FORCE_COLOR;
  if (forced !== undefined) return forced !== "0" && forced !== "false";
  return !env.NO_COLOR && stream.isTTY === true && env.TERM !== "dumb";
}
