import { isUint8Array } from "node:util/types";
import { invalidArgument } from "../base/errors.js";
import { type RequestHeader, setOwn } from "./request_processor.js";

/**
 * A value of a shape that only its user knows, as JSON.parse() gives it. Handlers ported from Python read yaml and keep fields that
 * nobody has declared; with `unknown` each of these lines would need a cast.
 */
// biome-ignore lint/suspicious/noExplicitAny: the one place, for the reason above
export type Untyped = any;

/** One parameter of a request as it arrived: the body ("body"), or a field of a form. */
export interface RequestPart {
  name: string;
  /** Without parameters such as charset; undefined where none was sent. */
  contentType?: string | undefined;
  value: Uint8Array | string;
}

/** What a handler gets for a request: its parameters by name, each a Buffer, a string or parsed JSON. */
export type HandlerRequest = Record<string, Untyped>;

/**
 * Decodes the parameters of a request as TorchServe does (ts/service.py): `application/json` exactly is parsed, `text...` is a string, anything
 * else a Buffer; so is what cannot be decoded. Of parameters of one name the last counts. Nothing is decoded where the environment
 * variable TS_DECODE_INPUT_REQUEST is set to anything but "true".
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT for values that are no bytes or text.
 */
export function decodeRequest(parts: readonly RequestPart[]): HandlerRequest {
  if (!Array.isArray(parts) || !parts.every((part) => typeof part === "object" && part !== null)) {
    throw invalidArgument("parts", "an array of the parts of a request", parts);
  }
  const request: HandlerRequest = {};
  const decodes = (process.env.TS_DECODE_INPUT_REQUEST ?? "true") === "true";
  for (const { name, contentType = "", value } of parts as readonly RequestPart[]) {
    if (typeof value !== "string" && !isUint8Array(value)) {
      throw invalidArgument(`value of the part ${JSON.stringify(name)}`, "bytes or text", value);
    }
    const bytes = Buffer.from(value as Uint8Array);
    setOwn(request, name, decodes ? decodeValue(contentType, bytes) : bytes);
  }
  return request;
}

/** The headers as a handler sees them: an entry with the content type of each parameter, unless a header has its name. */
export function requestHeaders(
  parts: readonly RequestPart[],
  headers: Readonly<Record<string, string>>,
): Record<string, RequestHeader> {
  const all: Record<string, RequestHeader> = {};
  for (const { name, contentType = "" } of parts) setOwn(all, name, { "content-type": contentType });
  for (const [name, value] of Object.entries(headers)) setOwn(all, name, value);
  return all;
}

function decodeValue(contentType: string, bytes: Buffer): Untyped {
  try {
    if (contentType === "application/json") return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    if (contentType.startsWith("text")) return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    // The handler sees what was sent, and may know better.
  }
  return bytes;
}
