import type { Socket } from "node:net";
import { deserialize, serialize } from "node:v8";

const headerBytes = 4;
/** A longer frame is no message of ours. */
const mostFrameBytes = 2 ** 30;

/**
 * Messages over a socket between a server and one of its workers: a length of four bytes, and an array of messages as v8 serializes it. Messages
 * that are sent in one turn of the event loop travel in one frame.
 */
export class Channel<Incoming, Outgoing> {
  readonly #socket: Socket;
  readonly #onMessage: (message: Incoming) => void;
  #waiting: Outgoing[] = [];
  #chunks: Buffer[] = [];
  #bytes = 0;
  readonly #flushSoon = () => this.flush();

  /** @param onClose Called once, however the connection ended. */
  constructor(socket: Socket, onMessage: (message: Incoming) => void, onClose: () => void) {
    this.#socket = socket;
    this.#onMessage = onMessage;
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    socket.on("error", () => {}); // "close" follows
    socket.once("close", onClose);
  }

  send(message: Outgoing): void {
    if (this.#waiting.push(message) === 1) setImmediate(this.#flushSoon);
  }

  /** Sends at once what waits. */
  flush(): void {
    if (this.#waiting.length === 0) return;
    const body = serialize(this.#waiting);
    this.#waiting = [];
    if (this.#socket.destroyed) return;
    const header = Buffer.allocUnsafe(headerBytes);
    header.writeUInt32LE(body.length);
    this.#socket.cork();
    this.#socket.write(header);
    this.#socket.write(body);
    this.#socket.uncork();
  }

  /** Sends what waits, and ends the connection. */
  end(): void {
    this.flush();
    this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #take(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    while (this.#bytes >= headerBytes) {
      const length = this.#peekLength();
      if (length > mostFrameBytes) {
        this.#socket.destroy();
        return;
      }
      if (this.#bytes < headerBytes + length) return;
      const all = this.#chunks.length === 1 ? (this.#chunks[0] as Buffer) : Buffer.concat(this.#chunks);
      const end = headerBytes + length;
      this.#chunks = all.length > end ? [all.subarray(end)] : [];
      this.#bytes = all.length - end;
      for (const message of deserialize(all.subarray(headerBytes, end)) as Incoming[]) this.#onMessage(message);
    }
  }

  #peekLength(): number {
    const [first] = this.#chunks as [Buffer];
    if (first.length >= headerBytes) return first.readUInt32LE();
    this.#chunks = [Buffer.concat(this.#chunks)];
    return (this.#chunks[0] as Buffer).readUInt32LE();
  }
}
