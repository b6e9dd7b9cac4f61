import type { Readable, Writable } from "node:stream";

/** A longer line is passed on in pieces, so that output without any line end does not fill the memory. */
const longestLine = 16 * 2 ** 20;
const lineEnd = "\n".charCodeAt(0);

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
 * Passes lines on, each at once with what stands before it. What comes after the last line end becomes a line at the end of the source.
 * The source is read no faster than the sink takes it, and is closed where nobody reads the sink.
 *
 * @param onWait told whether the source is waited for, so that one which will never end can be told from one whose reader is slow
 */
export async function forwardLines(
  source: Readable,
  sink: Sink,
  prefix: string,
  onWait: (waits: boolean) => void = () => {},
): Promise<void> {
  const start = Buffer.from(prefix);
  let rest: Buffer[] = [];
  let restBytes = 0;
  const takeRest = () => {
    const line = [start, ...rest];
    rest = [];
    restBytes = 0;
    return line;
  };
  onWait(true);
  for await (const chunk of source as AsyncIterable<Buffer>) {
    onWait(false);
    const lines: Buffer[] = [];
    let from = 0;
    for (let end = chunk.indexOf(lineEnd); end >= 0; end = chunk.indexOf(lineEnd, from)) {
      lines.push(...takeRest(), chunk.subarray(from, end + 1));
      from = end + 1;
    }
    if (from < chunk.length) {
      rest.push(chunk.subarray(from));
      restBytes += chunk.length - from;
    }
    if (restBytes >= longestLine) lines.push(...takeRest(), Buffer.from("\n"));
    if (lines.length > 0) await sink.write(Buffer.concat(lines));
    if (sink.closed) break;
    onWait(true);
  }
  onWait(false);
  if (rest.length > 0) await sink.write(Buffer.concat([...takeRest(), Buffer.from("\n")]));
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
