import { closeSync, constants, fstatSync, openSync, write, writeSync } from "node:fs";

export interface LogOutputOptions {
  /** Lines beyond it are dropped while a reader does not read. */
  mostWaitingBytes?: number;
  retryMs?: number;
  /** The line that says that lines are missing. */
  describeDropped?(count: number, code: string): string;
}

const passing = ["EAGAIN", "EBUSY", "EINTR"];

/**
 * Writes the lines of a log to a file descriptor, without ever holding up the server or its end: a reader that went away, that does not read,
 * or a full disk costs lines. How many is said once lines can be written again.
 */
export class LogOutput {
  readonly #fd: number;
  readonly #mostWaitingBytes: number;
  readonly #retryMs: number;
  readonly #describeDropped: NonNullable<LogOutputOptions["describeDropped"]>;
  #lines: string[] = [];
  #waitingBytes = 0;
  /** What the system has not taken yet of a batch of lines. */
  #batch: Buffer | undefined;
  #isBusy = false;
  #isWriting = false;
  #isGone = false;
  #dropped = 0;
  #reason = "";

  constructor(fd: number, options: LogOutputOptions = {}) {
    this.#fd = openUnblocked(fd);
    this.#mostWaitingBytes = options.mostWaitingBytes ?? 16 * 2 ** 20;
    this.#retryMs = options.retryMs ?? 50;
    this.#describeDropped = options.describeDropped ?? describeDropped;
  }

  write(line: string): void {
    if (this.#isGone) return;
    if (this.#waitingBytes + line.length > this.#mostWaitingBytes) {
      this.#drop(1, "the reader does not read");
      return;
    }
    this.#lines.push(line);
    this.#waitingBytes += line.length;
    if (!this.#isBusy) this.#writeSoon(0);
  }

  /** Where the process ends: writes what the system takes at once. A batch that a thread is writing is written, since the process waits for that. */
  flush(): void {
    if (this.#isGone) return;
    if (this.#isWriting) this.#batch = undefined;
    this.#isGone = true;
    try {
      for (let rest = this.#take(); rest !== undefined; rest = this.#take())
        this.#batch = rest.subarray(writeSync(this.#fd, rest));
    } catch {
      // Nobody is there to hear of it.
    }
  }

  /** Closes what it has opened itself. */
  close(given: number): void {
    this.#isGone = true;
    if (this.#fd !== given) closeSync(this.#fd);
  }

  /** A line that is written in the same turn goes along. */
  #writeSoon(delayMs: number): void {
    this.#isBusy = true;
    const begin = () => this.#writeNow();
    if (delayMs === 0) setImmediate(begin);
    // Lines do not keep a process alive whose reader does not read.
    else setTimeout(begin, delayMs).unref();
  }

  #writeNow(): void {
    const batch = this.#isGone ? undefined : this.#take();
    if (batch === undefined) {
      this.#isBusy = false;
      return;
    }
    this.#isWriting = true;
    write(this.#fd, batch, (error, written) => {
      this.#isWriting = false;
      if (this.#isGone) return;
      if (error === null) {
        this.#batch = batch.subarray(written);
        this.#writeSoon(0);
      } else if (passing.includes(error.code ?? "")) {
        this.#writeSoon(this.#retryMs);
      } else this.#fail(error, batch);
    });
  }

  #fail({ code = "" }: NodeJS.ErrnoException, batch: Buffer): void {
    this.#batch = undefined;
    this.#isBusy = false;
    // Who reads has seen enough, as `head` has. A disk may have room again.
    if (code === "EPIPE" || code === "EBADF") {
      this.#isGone = true;
      this.#lines = [];
    } else this.#drop(batch.toString().split("\n").length - 1, code);
  }

  #drop(count: number, reason: string): void {
    this.#dropped += count;
    this.#reason = reason;
  }

  #take(): Buffer | undefined {
    if (this.#batch !== undefined && this.#batch.length > 0) return this.#batch;
    this.#batch = undefined;
    if (this.#lines.length === 0) return undefined;
    if (this.#dropped > 0) this.#lines.unshift(this.#describeDropped(this.#dropped, this.#reason));
    this.#dropped = 0;
    this.#batch = Buffer.from(this.#lines.join(""));
    this.#lines = [];
    this.#waitingBytes = 0;
    return this.#batch;
  }
}

/**
 * A pipe opened once more, so that writing to a full one fails in place of waiting: a thread that waits would keep the process from ending. The
 * pipe's other users keep their own setting.
 */
function openUnblocked(fd: number): number {
  try {
    if (fstatSync(fd).isFIFO()) return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK);
  } catch {
    // It is written to as it is.
  }
  return fd;
}

function describeDropped(count: number, reason: string): string {
  const time = new Date().toISOString();
  return `${JSON.stringify({ level: "warn", time, msg: `${count} lines of the log were dropped: ${reason}` })}\n`;
}
