import { pythonJson } from "../base/python_json.js";

/** The response to one request of a batch. */
export interface RequestResponse {
  /** The request that it answers. */
  requestId: string;
  /** HTTP status. */
  status: number;
  /** null: the usual phrase of the status. */
  phrase: string | null;
  /** undefined if the handler has set none. */
  contentType: string | undefined;
  /** Other headers that the handler has set. */
  headers: Record<string, string>;
  /** "error" if the batch failed; see its code and message. */
  body: Buffer;
}

/** A part of a response, not its last one. */
export interface IntermediateResponse {
  /** Index of the request in its batch. */
  index: number;
  /** The request that it belongs to. */
  requestId: string;
  /** HTTP status. */
  status: number;
  /** As the handler gave it. */
  message: string;
  /** Contains `ts_stream_next: "true"`. */
  headers: Record<string, string>;
  /** A part of the response. */
  body: Buffer;
}

/** The header by which TorchServe marks a response that goes on. */
export const streamNextHeader = "ts_stream_next";

/**
 * A handler's output for one request as the body of its response (ts/protocol/otf_message_handler.py): bytes as they are, text in UTF-8, anything
 * else as JSON with an indent of 2, where undefined is null.
 *
 * @returns undefined where it has no such form: a function, a bigint, a cycle, an object that shows nothing of what it holds.
 */
export function encodeOutput(output: unknown): Buffer | undefined {
  if (Buffer.isBuffer(output)) return output;
  if (output instanceof Uint8Array) return Buffer.from(output.buffer, output.byteOffset, output.byteLength);
  if (output instanceof ArrayBuffer) return Buffer.from(output);
  if (typeof output === "string") return Buffer.from(output, "utf8");
  try {
    return Buffer.from(pythonJson(output, 2), "utf8");
  } catch {
    // Besides NotJson: a RangeError of nesting without end, and whatever a getter or a toJSON() throws.
    return undefined;
  }
}
