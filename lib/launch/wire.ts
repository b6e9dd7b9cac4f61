import type { Socket } from "node:net";

/** Time limit for the last message before the connection is cut. */
const closingMs = 2000;

/** Lines over a TCP connection, with a limit on the bytes that may wait to be read. */
export class Wire {
  readonly #socket: Socket;
  /** Resolves when the connection is gone. */
  readonly closed: Promise<void>;
  readonly #chunks: Buffer[] = [];
  #bufferedBytes = 0;
  #limit: number;
  #failure: Error | undefined;
  #closing = false;
  #waiting: { resolve(line: string): void; reject(error: Error): void } | undefined;

  /** @param limit most bytes that may wait to be read */
  constructor(socket: Socket, limit: number) {
    this.#socket = socket;
    this.#limit = limit;
    this.closed = new Promise((resolve) => socket.once("close", () => resolve()));
    // Notices after some fifteen seconds that a host has vanished.
    socket.setNoDelay(true).setKeepAlive(true, 5000);
    socket
      .on("data", (chunk) => this.#take(chunk))
      .on("error", (error) => this.fail(error))
      .on("end", () => this.fail(new Error("the connection was closed")))
      .on("close", () => this.fail(new Error("the connection was closed")));
  }

  set limit(bytes: number) {
    this.#limit = bytes;
  }

  /**
   * The next line, without its end. Lines that came before the connection ended can still be read. One reader at a time.
   *
   * @throws the error that the connection ended with
   */
  async read(): Promise<string> {
    const line = this.#shift();
    if (line !== undefined) return line;
    if (this.#failure !== undefined) throw this.#failure;
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  write(line: string): void {
    if (this.#failure === undefined) this.#socket.write(`${line}\n`);
  }

  /** Cuts the connection; a pending read rejects with this error. Only the first call counts. */
  fail(error: Error): void {
    // If this side is closing already, the last bytes are still sent.
    if (this.#closing) this.#socket.destroySoon();
    else this.#socket.destroy();
    this.#end(error);
  }

  /** Sends what was written, then ends the connection; the other side has two seconds to end it too. Resolves when it is closed. */
  async close(lastLine?: string): Promise<void> {
    if (this.#failure === undefined) {
      if (lastLine !== undefined) this.write(lastLine);
      this.#closing = true;
      this.#end(new Error("the connection was closed by this side"));
      this.#socket.end();
      const timer = setTimeout(() => this.#socket.destroy(), closingMs);
      void this.closed.then(() => clearTimeout(timer));
    }
    return this.closed;
  }

  #end(error: Error): void {
    this.#failure ??= error;
    this.#waiting?.reject(this.#failure);
    this.#waiting = undefined;
  }

  #take(chunk: Buffer): void {
    if (this.#failure !== undefined) return;
    this.#chunks.push(chunk);
    this.#bufferedBytes += chunk.length;
    if (this.#waiting !== undefined && chunk.includes(lineEnd)) {
      const { resolve } = this.#waiting;
      this.#waiting = undefined;
      resolve(this.#shift() as string);
    }
    if (this.#bufferedBytes > this.#limit) this.fail(new Error(`more than ${this.#limit} bytes were sent`));
  }

  #shift(): string | undefined {
    const last = this.#chunks.findIndex((chunk) => chunk.includes(lineEnd));
    if (last < 0) return undefined;
    const chunk = this.#chunks[last] as Buffer;
    const end = chunk.indexOf(lineEnd);
    const line = Buffer.concat([...this.#chunks.slice(0, last), chunk.subarray(0, end)]);
    const rest = chunk.subarray(end + 1);
    this.#chunks.splice(0, last + 1, ...(rest.length > 0 ? [rest] : []));
    this.#bufferedBytes -= line.length + 1;
    return line.toString("utf8");
  }
}

const lineEnd = "\n".charCodeAt(0);
