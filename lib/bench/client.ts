import http from "node:http";
import https from "node:https";
import { ShardspeedError } from "../base/errors.js";

/** Sockets that nobody uses for so long are closed: many servers close theirs after 5 s, and a request sent just then is lost. */
const idleSocketMs = 4000;

/** What is kept of a body that is no stream. */
const mostBodyBytes = 64 * 2 ** 20;

export interface ClientOptions {
  /** `http://host:port`, with a path or without. */
  baseUrl: string;
  apiKey?: string;
}

/** An answer that is no stream. */
export interface Reply {
  status: number;
  /** What the body's JSON holds, or its text where it is none. */
  body: unknown;
}

/** Connections to one server, which are kept and used again. */
export class Client {
  readonly #baseUrl: string;
  readonly #headers: Record<string, string>;
  readonly #module: typeof http | typeof https;
  readonly #agent: http.Agent;

  constructor({ baseUrl, apiKey }: ClientOptions) {
    const url = readUrl(baseUrl);
    // Routes begin with /v1 where they have it, and addresses as OpenAI's clients take them end in it.
    this.#baseUrl = baseUrl.replace(/\/+$/, "").replace(/\/v1$/, "");
    this.#module = url.protocol === "https:" ? https : http;
    // By default connections above 256 are closed as soon as they are idle.
    const settings = { keepAlive: true, maxFreeSockets: Number.POSITIVE_INFINITY, timeout: idleSocketMs };
    this.#agent = url.protocol === "https:" ? new https.Agent(settings) : new http.Agent(settings);
    this.#headers = apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` };
  }

  address(route: string): string {
    return this.#baseUrl + route;
  }

  /** Begins a request; the caller listens to its events and ends it. */
  open(method: "GET" | "POST", route: string, body?: string, signal?: AbortSignal): http.ClientRequest {
    const content =
      body === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
    const request = this.#module.request(this.address(route), {
      method,
      agent: this.#agent,
      headers: { ...this.#headers, ...content },
      ...(signal === undefined ? {} : { signal }),
    });
    request.setNoDelay(true);
    return request;
  }

  /**
   * Sends a request whose answer is no stream.
   *
   * @throws What the network says, such as ECONNREFUSED; AbortError.
   */
  async call(method: "GET" | "POST", route: string, body?: unknown, signal?: AbortSignal): Promise<Reply> {
    const sent = body === undefined ? undefined : JSON.stringify(body);
    return new Promise<Reply>((resolve, reject) => {
      const request = this.open(method, route, sent, signal);
      request.on("error", reject).on("response", (response) => {
        readBody(response, mostBodyBytes).then(
          (text) => resolve({ status: response.statusCode ?? 0, body: parseBody(text) }),
          reject,
        );
      });
      request.end(sent);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}

function readUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol === "http:" || url?.protocol === "https:") return url;
  throw new ShardspeedError("ERR_INVALID_ARGUMENT", `Expected --base-url to be http://HOST:PORT, found ${text}`);
}

/** The text of a body, cut after so many bytes. */
export async function readBody(response: http.IncomingMessage, mostBytes: number): Promise<string> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of response as AsyncIterable<Buffer>) {
    pieces.push(piece);
    bytes += piece.length;
    if (bytes >= mostBytes) break;
  }
  return Buffer.concat(pieces).toString("utf8");
}

export function parseBody(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
