import type { Readable } from "node:stream";

/** Longer lines are cut. */
const mostLineBytes = 8 * 1024;
/** What a worker may write at once, and in each second after that. */
const burstBytes = 256 * 1024;
const bytesPerSecond = 128 * 1024;
/** What the shortest line counts for: each costs the server a line of its log. */
const leastLineBytes = 64;
const reportMs = 1000;
const lineEnd = "\n".charCodeAt(0);

/**
 * Lines that a worker writes, on their way to the server's log. A worker that floods them neither fills the server's memory nor takes its time: what
 * is more than a bounded rate is counted and left out, and what is left out is said once a second.
 */
export class WorkerOutput {
  readonly #write: (line: string) => void;
  readonly #report: (message: string) => void;
  readonly #now: () => number;
  #budget = burstBytes;
  #refilledAt: number;
  #skippedLines = 0;
  #skippedBytes = 0;
  #timer: NodeJS.Timeout | undefined;

  /**
   * @param write Gets the lines.
   * @param report Gets the message that some were left out.
   * @param now Milliseconds of a clock.
   */
  constructor(
    write: (line: string) => void,
    report: (message: string) => void,
    now: () => number = () => performance.now(),
  ) {
    this.#write = write;
    this.#report = report;
    this.#now = now;
    this.#refilledAt = now();
  }

  /** Reads a source to its end. @param onWait As that of OutputTaker. */
  async read(source: Readable, prefix: string, onWait: (waits: boolean) => void): Promise<void> {
    const line = new Line();
    onWait(true);
    for await (const chunk of source as AsyncIterable<Buffer>) {
      onWait(false);
      this.#take(chunk, line, prefix);
      onWait(true);
    }
    onWait(false);
    if (line.bytes > 0) this.#finish(line, prefix);
    this.end();
  }

  /** @param write Default: that of the constructor. */
  line(text: string, write: (line: string) => void = this.#write): void {
    const bytes = Buffer.byteLength(text);
    if (!this.#spend(Math.min(bytes, mostLineBytes))) this.#skip(1, bytes);
    else if (bytes <= mostLineBytes) write(text);
    else {
      // As many characters have no fewer bytes: it may be cut a little earlier than it must.
      const kept = Buffer.from(text.slice(0, mostLineBytes)).subarray(0, mostLineBytes);
      write(withCut(kept, bytes - kept.length));
    }
  }

  /** Says what was left out. */
  end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#skippedLines === 0 && this.#skippedBytes === 0) return;
    const [lines, bytes] = [this.#skippedLines, this.#skippedBytes];
    this.#skippedLines = 0;
    this.#skippedBytes = 0;
    this.#report(
      `${lines} lines of the worker (${bytes} bytes) are not in this log: it writes more than ${bytesPerSecond / 1024} KiB a second.`,
    );
  }

  #take(chunk: Buffer, line: Line, prefix: string): void {
    for (let from = 0; from < chunk.length; ) {
      // To find each line of a flood would take more time than the flood leaves.
      if (!this.#hasBudget()) {
        this.#skipRest(chunk.subarray(from), line);
        return;
      }
      const end = chunk.indexOf(lineEnd, from);
      line.add(chunk.subarray(from, end < 0 ? chunk.length : end));
      if (end < 0) return;
      this.#finish(line, prefix);
      from = end + 1;
    }
  }

  #finish(line: Line, prefix: string): void {
    const { bytes, isSkipped } = line;
    const [kept, text] = line.take();
    if (isSkipped) this.#skip(1, bytes);
    else if (this.#spend(kept)) this.#write(prefix + text);
    else this.#skip(1, bytes);
  }

  #skipRest(rest: Buffer, line: Line): void {
    const last = rest.lastIndexOf(lineEnd);
    if (last >= 0) {
      this.#skip(countLines(rest, last + 1), line.bytes + last + 1);
      line.take();
    }
    line.add(rest.subarray(last + 1));
    line.isSkipped = line.bytes > 0;
  }

  #hasBudget(): boolean {
    this.#refill();
    return this.#budget > 0;
  }

  /** The last one may exceed the budget: those after it wait longer. */
  #spend(bytes: number): boolean {
    if (!this.#hasBudget()) return false;
    this.#budget -= Math.max(bytes, leastLineBytes);
    return true;
  }

  #refill(): void {
    const now = this.#now();
    this.#budget = Math.min(burstBytes, this.#budget + ((now - this.#refilledAt) / 1000) * bytesPerSecond);
    this.#refilledAt = now;
  }

  #skip(lines: number, bytes: number): void {
    this.#skippedLines += lines;
    this.#skippedBytes += bytes;
    this.#timer ??= setTimeout(() => this.end(), reportMs).unref();
  }
}

/** A line whose end has not come yet: its beginning, and how much there is. */
class Line {
  bytes = 0;
  isSkipped = false;
  #kept: Buffer[] = [];
  #keptBytes = 0;

  add(piece: Buffer): void {
    this.bytes += piece.length;
    const room = mostLineBytes - this.#keptBytes;
    if (room <= 0 || piece.length === 0) return;
    // A copy: a few bytes of a large chunk would keep all of it.
    const kept = Buffer.from(piece.subarray(0, room));
    this.#kept.push(kept);
    this.#keptBytes += kept.length;
  }

  /** Its bytes that count, and its text; what follows is another line. */
  take(): [bytes: number, text: string] {
    const kept = this.#kept.length === 1 ? (this.#kept[0] as Buffer) : Buffer.concat(this.#kept);
    const left = this.bytes - kept.length;
    this.#kept = [];
    this.#keptBytes = 0;
    this.bytes = 0;
    this.isSkipped = false;
    return [kept.length, left === 0 ? kept.toString("utf8") : withCut(kept, left)];
  }
}

function withCut(kept: Buffer, leftBytes: number): string {
  return `${kept.toString("utf8")}... (${leftBytes} bytes more)`;
}

function countLines(bytes: Buffer, end: number): number {
  let lines = 0;
  for (let i = 0; i < end; i++) if (bytes[i] === lineEnd) lines++;
  return lines;
}
