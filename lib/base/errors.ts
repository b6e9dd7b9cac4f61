import { types } from "node:util";
import { showValue } from "./text.js";

/** The stable codes and their meanings. docs/errors.md has the details; a test keeps the two equal. */
export const errorCodes = {
  ERR_INVALID_ARGUMENT: "An option or argument has a wrong type or value.",
  ERR_CONFIG: "The DeepSpeed config, model-config.yaml or the launcher's environment is wrong.",
  ERR_CHECKPOINT: "A checkpoint file is missing, damaged or does not fit the model.",
  ERR_ARCHIVE: "A model archive cannot be made, or is damaged, unsafe or no model archive.",
  ERR_UNSUPPORTED_MODEL: "The architecture, or an option of it, is not one that shardspeed computes.",
  ERR_TOKENIZER: "The tokenizer is missing or cannot be read.",
  ERR_CONTEXT_LENGTH: "Prompt and new tokens are longer than the model, the config or the KV cache allows.",
  ERR_OUT_OF_MEMORY: "The model or a request needs more memory than there is.",
  ERR_NUMERIC: "The model computed infinity or NaN.",
  ERR_CUDA: "A CUDA device was asked for and there is none that can be used, or an operation on it failed.",
  ERR_COMM: "A rank of the group is gone, silent or could not be met.",
  ERR_NOT_DRIVER: "Generation was asked for on a rank that does not drive.",
  ERR_ABORTED: "The work was cancelled by its signal.",
  ERR_DISPOSED: "The engine has been disposed, or failed for good.",
  ERR_HANDLER: "A handler cannot be found, loaded or started, or does not keep to its contract.",
  ERR_BENCH: "The server that was to be measured cannot be reached, or refuses the first request.",
  ERR_NATIVE: "The native addon could not be loaded, or failed inside.",
} as const;

/** What a failure is. docs/errors.md describes each. */
export type ErrorCode = keyof typeof errorCodes;

/**
 * The HTTP status for each code: 400 for an invalid request, 499 if the client has gone, 503 if a retry may succeed, 507 for a lack of memory or
 * devices, 500 for an error of the model or the server. A PredictionException has its own status.
 */
export const httpStatuses: Readonly<Record<ErrorCode, number>> = {
  ERR_INVALID_ARGUMENT: 400,
  ERR_CONFIG: 500,
  ERR_CHECKPOINT: 500,
  ERR_ARCHIVE: 500,
  ERR_UNSUPPORTED_MODEL: 500,
  ERR_TOKENIZER: 400,
  ERR_CONTEXT_LENGTH: 400,
  ERR_OUT_OF_MEMORY: 507,
  ERR_NUMERIC: 503,
  ERR_CUDA: 507,
  ERR_COMM: 503,
  ERR_NOT_DRIVER: 500,
  ERR_ABORTED: 499,
  ERR_DISPOSED: 503,
  ERR_HANDLER: 500,
  ERR_BENCH: 502,
  ERR_NATIVE: 500,
};

const marker = Symbol.for("shardspeed.error");

/** Every failure that shardspeed reports, with a stable `code`, and a message that names what was found, what was expected and what to do. */
export class ShardspeedError extends Error {
  /** Stable: programs may depend on it. docs/errors.md describes each. */
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    // What AbortController users look for, as in Node's own errors and DOMException.
    this.name = code === "ERR_ABORTED" ? "AbortError" : "ShardspeedError";
    this.code = code;
    Object.defineProperty(this, marker, { value: true });
  }

  /** True for errors of any copy of this package in the process, unlike `instanceof`. */
  static isInstance(error: unknown): error is ShardspeedError {
    return typeof error === "object" && error !== null && marker in error;
  }
}

/** Whether a value is an error: also one of another realm, such as Node's own where a test runner runs this package in a context of its own. */
export function isError(value: unknown): value is Error {
  return types.isNativeError(value) || value instanceof Error;
}

/** An error of the native side, as it throws it or reports it. */
export function nativeError({ code, message }: { code?: unknown; message: string }, cause?: unknown): ShardspeedError {
  const known = typeof code === "string" && Object.hasOwn(errorCodes, code) ? (code as ErrorCode) : "ERR_NATIVE";
  return new ShardspeedError(known, message, cause === undefined ? undefined : { cause });
}

/** A sentence of the form "Expected topK to be an integer of at least 0, found -1 (number)". */
export function invalidArgument(name: string, expected: string, found: unknown): ShardspeedError {
  const kind = found === null ? "null" : Array.isArray(found) ? "array" : typeof found;
  return new ShardspeedError(
    "ERR_INVALID_ARGUMENT",
    `Expected ${name} to be ${expected}, found ${showValue(found)} (${kind})`,
  );
}
