import { type ErrorCode, isError, ShardspeedError } from "../../../base/errors.js";
import { truncate } from "../../../base/text.js";
import { ServingError, type ServingErrorCode } from "../../serving_error.js";

export interface ApiErrorDetails {
  /** The field at fault, such as `messages[2].content`. */
  param?: string | undefined;
  headers?: Record<string, string>;
  /** More keys of the error object. */
  more?: Record<string, unknown>;
}

/** A failure as OpenAI's API answers it. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly type: string,
    readonly code: string,
    message: string,
    readonly details: ApiErrorDetails = {},
  ) {
    super(message);
    this.name = "ApiError";
  }

  /** All four keys are always there: clients read them. */
  get body(): { error: Record<string, unknown> } {
    const { type, code, details } = this;
    return { error: { message: this.message, type, param: details.param ?? null, code, ...details.more } };
  }
}

/** A request that is at fault. */
export function invalidRequest(code: string, message: string, param?: string): ApiError {
  return new ApiError(400, "invalid_request_error", code, message, { param });
}

export function methodNotAllowed(method: string, allowed: readonly string[]): ApiError {
  return new ApiError(
    405,
    "invalid_request_error",
    "method_not_allowed",
    `This URL takes ${allowed.join(", ")}, not ${method}.`,
    { headers: { allow: allowed.join(", ") } },
  );
}

/** Tokens of a request that does not fit, as far as they are known. */
export interface OverflowCounts {
  prompt?: number | undefined;
  completion?: number | undefined;
}

/** Clients tell this error by its words: "maximum context length is N" and "reduce the length of the messages or completion". */
export function contextOverflow(contextTokens: number, param: string, counts: OverflowCounts = {}): ApiError {
  const { prompt, completion = 0 } = counts;
  const where = param === "messages" ? "messages" : "prompt";
  const found =
    prompt === undefined
      ? `Your request has more tokens in the ${where} than there is room for.`
      : `However, you requested ${prompt + completion} tokens (${prompt} in the ${where}, ${completion} in the completion).`;
  return new ApiError(
    400,
    "invalid_request_error",
    "context_length_exceeded",
    `This model's maximum context length is ${contextTokens} tokens. ${found} Please reduce the length of the messages or completion.`,
    { param, more: { ...(prompt === undefined ? {} : { n_prompt_tokens: prompt }), n_ctx: contextTokens } },
  );
}

/** What a failure is told in terms of. */
export interface ErrorContext {
  queueFullStatus: 503 | 429;
  /** The field with the prompt. */
  promptField?: string | undefined;
  /** Of the model that was asked. */
  contextTokens?: number | undefined;
}

type Shape = readonly [status: number, type: string, code: string];

const servingShapes: Readonly<Record<ServingErrorCode, Shape>> = {
  queue_full: [503, "overloaded_error", "queue_full"],
  model_loading: [503, "unavailable_error", "model_loading"],
  no_worker: [503, "unavailable_error", "no_worker"],
  shutting_down: [503, "unavailable_error", "shutting_down"],
  queue_timeout: [503, "timeout_error", "queue_timeout"],
  request_timeout: [504, "timeout_error", "request_timeout"],
  worker_died: [500, "server_error", "engine_error"],
  too_many_sequences: [400, "invalid_request_error", "invalid_value"],
  model_not_found: [404, "invalid_request_error", "model_not_found"],
  version_not_found: [404, "invalid_request_error", "model_not_found"],
};

const failed: Shape = [500, "server_error", "engine_error"];

/** Codes that are not here are failures of the server that another try meets again. */
const engineShapes: Partial<Record<ErrorCode, Shape>> = {
  ERR_INVALID_ARGUMENT: [400, "invalid_request_error", "invalid_value"],
  ERR_TOKENIZER: [400, "invalid_request_error", "invalid_value"],
  ERR_CONTEXT_LENGTH: [400, "invalid_request_error", "context_length_exceeded"],
  ERR_UNSUPPORTED_MODEL: [400, "invalid_request_error", "unsupported_task"],
  ERR_OUT_OF_MEMORY: [507, "server_error", "out_of_memory"],
  ERR_ABORTED: [499, "server_error", "aborted"],
};

/** The engine is gone and comes back: another try may succeed. */
const passing: readonly ErrorCode[] = ["ERR_COMM", "ERR_DISPOSED"];

/** Failures of Fastify, by its codes. */
const fastifyShapes: Readonly<Record<string, Shape>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: [413, "invalid_request_error", "request_too_large"],
  FST_ERR_CTP_INVALID_MEDIA_TYPE: [415, "invalid_request_error", "unsupported_media_type"],
  FST_ERR_CTP_EMPTY_JSON_BODY: [400, "invalid_request_error", "invalid_json"],
  FST_ERR_CTP_INVALID_JSON_BODY: [400, "invalid_request_error", "invalid_json"],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: [400, "invalid_request_error", "invalid_json"],
  FST_ERR_HANDLER_TIMEOUT: [504, "timeout_error", "request_timeout"],
};

/** Failures of hooks that know no family of routes, by their status. */
const statusShapes: Readonly<Record<number, Shape>> = {
  400: [400, "invalid_request_error", "invalid_json"],
  401: [401, "authentication_error", "invalid_api_key"],
  403: [403, "permission_error", "insufficient_permissions"],
  404: [404, "invalid_request_error", "unknown_url"],
  413: [413, "invalid_request_error", "request_too_large"],
  415: [415, "invalid_request_error", "unsupported_media_type"],
  429: [429, "rate_limit_error", "rate_limit_exceeded"],
  503: [503, "unavailable_error", "unavailable"],
};

/** Every status with which these routes may refuse or fail, for the OpenAPI document. */
export const errorStatuses: readonly number[] = [
  ...new Set(
    [servingShapes, engineShapes, fastifyShapes, statusShapes]
      .flatMap((table) => Object.values(table) as Shape[])
      .map(([status]) => status)
      // Nobody is there to read it.
      .filter((status) => status !== 499),
  ),
].sort((one, other) => one - other);

/** Has clients not try again where that cannot help. */
const final = { "x-should-retry": "false" };

/** Any failure as the API answers it. What is not known is the server's fault, and its message stays here. */
export function toApiError(error: unknown, context: ErrorContext): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof ServingError) return fromServing(error, context);
  if (ShardspeedError.isInstance(error)) return fromEngine(error, context);
  return fromFastify(error) ?? new ApiError(500, "server_error", "internal_error", "The server failed.");
}

function fromServing(error: ServingError, { queueFullStatus }: ErrorContext): ApiError {
  const { code, message, details } = error;
  let [status, type, name] = servingShapes[code];
  if (code === "queue_full" && queueFullStatus === 429) [status, type] = [429, "rate_limit_error"];
  const headers: Record<string, string> = {};
  // A client that reads 0 tries again at once, three times.
  if (status === 503 || status === 429)
    headers["retry-after"] = String(Math.max(1, Math.ceil(details.retryAfterS ?? 1)));
  if (details.final && status >= 500) Object.assign(headers, final);
  return new ApiError(status, type, name, message, { headers, param: status === 404 ? "model" : undefined });
}

function fromEngine(error: ShardspeedError, context: ErrorContext): ApiError {
  const { code } = error;
  const message = truncate(error.message, 2000);
  if (code === "ERR_CONTEXT_LENGTH" && context.contextTokens !== undefined) {
    const { details } = error as { details?: { promptTokens?: unknown } };
    const prompt = typeof details?.promptTokens === "number" ? details.promptTokens : undefined;
    return contextOverflow(context.contextTokens, context.promptField ?? "prompt", { prompt });
  }
  const [status, type, name] = engineShapes[code] ?? failed;
  const isFinal = status >= 500 && !passing.includes(code);
  const param = code === "ERR_UNSUPPORTED_MODEL" ? "model" : code === "ERR_TOKENIZER" ? context.promptField : undefined;
  return new ApiError(status, type, name, message, { param, headers: isFinal ? final : {} });
}

function fromFastify(error: unknown): ApiError | undefined {
  if (!isError(error)) return undefined;
  const { code, statusCode, headers: given } = error as { code?: unknown; statusCode?: unknown; headers?: unknown };
  const shape = fastifyShapes[String(code)] ?? statusShapes[Number(statusCode)];
  if (shape === undefined) return undefined;
  const [status, type, name] = shape;
  const headers: Record<string, string> = status === 401 ? { "www-authenticate": "Bearer" } : {};
  if (status === 503 || status === 429) headers["retry-after"] = "1";
  const own = typeof given === "object" && given !== null ? (given as Record<string, string>) : {};
  const message =
    status === 415 ? "Expected a body with Content-Type: application/json." : truncate(error.message, 500);
  return new ApiError(status, type, name, message, { headers: { ...headers, ...own } });
}
