import { isUint8Array } from "node:util/types";
import { invalidArgument } from "../base/errors.js";
import { parseLenientJson } from "../base/lenient_json.js";
import { type RequestHeader, setOwn } from "./request_processor.js";

/**
 * A value without a declared shape, as from JSON.parse(). Handlers ported from Python read yaml and use undeclared fields; with `unknown`
 * each such line would need a cast.
 */
// biome-ignore lint/suspicious/noExplicitAny: the one place, for the reason above
export type Untyped = any;

/** One undecoded parameter of a request: the body ("body"), or a field of a form. */
export interface RequestPart {
  /** "body", or the name of the field. */
  name: string;
  /** Without parameters such as charset; undefined if none was sent. */
  contentType?: string | undefined;
  /** Its bytes or text. */
  value: Uint8Array | string;
}

/** A request as a handler gets it: its parameters by name, each a Buffer, a string or parsed JSON. */
export type HandlerRequest = Record<string, Untyped>;

/**
 * Decodes the parameters of a request like TorchServe (ts/service.py): `application/json` is parsed, `text...` becomes a string, anything else, and
 * what cannot be decoded, a Buffer. If a name occurs several times, the last one is used. Nothing is decoded if the environment
 * variable TS_DECODE_INPUT_REQUEST is set to anything but "true".
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT for values that are neither bytes nor text.
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
    if (contentType === "application/json") {
      return parseLenientJson(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    }
    if (contentType.startsWith("text")) return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    // The handler sees what was sent, and may know better.
  }
  return bytes;
}
