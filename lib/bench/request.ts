import type { IncomingMessage } from "node:http";
import { onAbort } from "../base/abort.js";
import { isError } from "../base/errors.js";
import { BadChunk, cut, describeError, type ReadChunk, readChunk } from "./chunk.js";
import { type Client, parseBody, readBody } from "./client.js";
import { EventReader } from "./event_stream.js";

/**
 * How a request ended. `rejected`: the server had no room for it and said so, with 503 or 429. `aborted`: the run was ended while it went on.
 */
export type RequestState = "completed" | "rejected" | "failed" | "aborted";

/** One request as it was seen from here. Times are milliseconds of `performance.now()`. */
export interface RequestOutcome {
  state: RequestState;
  /** The HTTP status, or the kind of failure: `cut_stream`, `invalid_json`, `error_event`, `not_a_stream`, `timeout`, a code such as ECONNREFUSED. */
  reason?: string;
  message?: string;
  sentMs: number;
  /** Arrivals of the chunks that brought tokens. */
  tokenTimesMs: number[];
  /** Arrival of what ended the answer. */
  endMs: number;
  text: string;
  usage?: ReadChunk["usage"];
  /** Whether an earlier request's connection was used. */
  reusedConnection: boolean;
}

/** Bytes that are read of an error's body. */
const mostErrorBytes = 64 * 1024;

const rejections = [429, 503];

/** Sends one streaming request and reads it to its end. Never rejects: what goes wrong is part of the outcome. */
export async function sendRequest(
  client: Client,
  endpoint: string,
  body: string,
  { timeoutMs, signal }: { timeoutMs: number; signal?: AbortSignal },
): Promise<RequestOutcome> {
  const outcome: RequestOutcome = {
    state: "failed",
    sentMs: performance.now(),
    tokenTimesMs: [],
    endMs: 0,
    text: "",
    reusedConnection: false,
  };
  const ending = new AbortController();
  let isOverdue = false;
  const timer = setTimeout(() => {
    isOverdue = true;
    ending.abort();
  }, timeoutMs);
  const stopListening = onAbort(signal, () => ending.abort());
  try {
    const response = await openStream(client, endpoint, body, ending.signal, outcome);
    Object.assign(outcome, await readAnswer(response, outcome));
  } catch (error) {
    const kind = isOverdue ? "timeout" : signal?.aborted ? "aborted" : kindOf(error);
    outcome.state = kind === "aborted" ? "aborted" : "failed";
    outcome.reason = kind;
    outcome.message = isError(error) ? cut(error.message) : String(error);
  } finally {
    clearTimeout(timer);
    stopListening();
  }
  outcome.endMs = outcome.state === "completed" ? (outcome.tokenTimesMs.at(-1) ?? outcome.endMs) : performance.now();
  return outcome;
}

function openStream(
  client: Client,
  endpoint: string,
  body: string,
  signal: AbortSignal,
  outcome: RequestOutcome,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const request = client.open("POST", endpoint, body, signal);
    request.on("error", reject).on("response", (response) => {
      outcome.reusedConnection = request.reusedSocket;
      // An aborted request's response emits its error where nobody may listen any more.
      response.on("error", () => {});
      resolve(response);
    });
    request.end(body);
  });
}

type Ending = Pick<RequestOutcome, "state"> & Partial<RequestOutcome>;

async function readAnswer(response: IncomingMessage, outcome: RequestOutcome): Promise<Ending> {
  const status = response.statusCode ?? 0;
  if (status !== 200) {
    const body = parseBody(await readBody(response, mostErrorBytes));
    const message = describeError(body) ?? (typeof body === "string" ? cut(body) : "");
    return { state: rejections.includes(status) ? "rejected" : "failed", reason: String(status), message };
  }
  const type = response.headers["content-type"] ?? "none";
  if (!type.startsWith("text/event-stream")) {
    response.destroy();
    return { state: "failed", reason: "not_a_stream", message: `the answer's content type is ${cut(type)}` };
  }
  return readStream(response, outcome);
}

/** Not by `for await`: that joins pieces which arrive while earlier ones are read, and their times with them. */
function readStream(response: IncomingMessage, outcome: RequestOutcome): Promise<Ending> {
  const reader = new EventReader();
  let isFinished = false;
  const onEvent = (data: string, nowMs: number) => {
    if (data === "[DONE]") {
      isFinished = true;
      outcome.endMs ||= nowMs;
      return;
    }
    const chunk = readChunk(data);
    if (chunk.usage !== undefined) outcome.usage = chunk.usage;
    outcome.text += chunk.text;
    if (chunk.hasTokens) outcome.tokenTimesMs.push(nowMs);
    if (chunk.isFinal) {
      isFinished = true;
      outcome.endMs = nowMs;
    }
  };
  return new Promise((resolve, reject) => {
    response.on("data", (piece: Buffer) => {
      const nowMs = performance.now();
      try {
        for (const data of reader.push(piece)) onEvent(data, nowMs);
      } catch (error) {
        reject(error);
        response.destroy();
      }
    });
    response.on("error", reject).on("end", () => {
      // Official clients take a stream that was cut between two events for a complete answer.
      const message = "the stream ended without a finish_reason";
      resolve(isFinished ? { state: "completed" } : { state: "failed", reason: "cut_stream", message });
    });
  });
}

function kindOf(error: unknown): string {
  if (error instanceof BadChunk) return error.kind;
  if (error instanceof RangeError) return "invalid_event";
  const { code } = error as NodeJS.ErrnoException;
  // Node's words for a body that ends before its last chunk.
  if (code === "ECONNRESET" && (error as Error).message === "aborted") return "cut_stream";
  return code ?? "unknown";
}
