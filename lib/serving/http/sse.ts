import { Readable } from "node:stream";
import type { FastifyReply } from "fastify";

export interface EventStreamOptions {
  /** After so long without a byte a comment is sent, which keeps proxies from cutting the connection; 0: never. */
  pingIntervalMs: number;
  /** A client that leaves more than this unread is dropped. */
  mostWaitingBytes: number;
}

const headers = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-cache",
  // nginx would collect the events.
  "x-accel-buffering": "no",
};

/** One server-sent event. JSON has no line breaks, so it is one line of data. */
export function toEvent(data: object, name?: string): string {
  return `${name === undefined ? "" : `event: ${name}\n`}data: ${JSON.stringify(data)}\n\n`;
}

/**
 * A response of server-sent events. Nothing is sent, not even the status, before the first event or the first ping: until then an error can
 * still be answered with a status of its own.
 */
export class EventStream {
  readonly #reply: FastifyReply;
  readonly #options: EventStreamOptions;
  #body: Readable | undefined;
  /** Events that the next write takes along. */
  #pending = "";
  #flush: NodeJS.Immediate | undefined;
  readonly #ping: NodeJS.Timeout | undefined;
  #isOver = false;

  constructor(reply: FastifyReply, options: EventStreamOptions) {
    this.#reply = reply;
    this.#options = options;
    reply.raw.once("close", () => this.#stop());
    if (options.pingIntervalMs <= 0) return;
    this.#ping = setInterval(() => this.#write(":\n\n"), options.pingIntervalMs);
    this.#ping.unref();
  }

  /** Whether the status has been sent. */
  get begun(): boolean {
    return this.#body !== undefined;
  }

  /** Sends events. All that come in one turn of the event loop, which is a step of the engine, are one write. */
  send(events: string): void {
    if (events === "" || this.#isOver) return;
    this.#pending += events;
    this.#flush ??= setImmediate(() => this.#writePending());
  }

  /** Sends the last events and ends the response. */
  end(events: string): void {
    if (this.#isOver) return;
    this.#pending += events;
    this.#writePending();
    this.#body?.push(null);
    this.#stop();
  }

  /** Gives up before the first byte: the response is the caller's again. */
  abandon(): void {
    this.#stop();
  }

  #writePending(): void {
    const events = this.#pending;
    this.#pending = "";
    clearImmediate(this.#flush);
    this.#flush = undefined;
    if (events !== "") this.#write(events);
  }

  #write(text: string): void {
    if (this.#isOver) return;
    this.#ping?.refresh();
    if (this.#body === undefined) {
      this.#body = new Readable({ read() {} });
      this.#reply.code(200).headers(headers).send(this.#body);
    }
    this.#body.push(text);
    // Cut, not ended: a stream that ends looks complete to clients.
    if (this.#body.readableLength + this.#reply.raw.writableLength > this.#options.mostWaitingBytes)
      this.#reply.raw.destroy();
  }

  #stop(): void {
    this.#isOver = true;
    clearInterval(this.#ping);
    clearImmediate(this.#flush);
  }
}
