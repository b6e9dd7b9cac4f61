import { STATUS_CODES } from "node:http";
import type { FastifyReply } from "fastify";
import { httpStatuses, ShardspeedError } from "../../../base/errors.js";
import { isOutOfSpace } from "../../../base/system_errors.js";
import { AlreadyRegistered, DefaultVersionInUse } from "../../registry.js";
import { ServingError, type ServingErrorCode } from "../../serving_error.js";

/** A failure as TorchServe answers it: status, name of the Java exception, message. */
export class TorchServeError extends Error {
  constructor(
    readonly status: number,
    readonly type: string,
    message: string,
    readonly headers: Readonly<Record<string, string>> = {},
  ) {
    super(message);
    this.name = "TorchServeError";
  }
}

export function badRequest(message: string): TorchServeError {
  return new TorchServeError(400, "BadRequestException", message);
}

export function notFound(): TorchServeError {
  const text = "Requested resource is not found, please refer to API document.";
  return new TorchServeError(404, "ResourceNotFoundException", text);
}

export function methodNotAllowed(): TorchServeError {
  const text = "Requested method is not allowed, please refer to API document.";
  return new TorchServeError(405, "MethodNotAllowedException", text);
}

const servingTypes: Readonly<Record<ServingErrorCode, string>> = {
  queue_full: "ServiceUnavailableException",
  model_loading: "ServiceUnavailableException",
  no_worker: "ServiceUnavailableException",
  shutting_down: "ServiceUnavailableException",
  queue_timeout: "ServiceUnavailableException",
  request_timeout: "InternalServerException",
  worker_died: "InternalServerException",
  too_many_sequences: "BadRequestException",
  model_not_found: "ModelNotFoundException",
  version_not_found: "ModelVersionNotFoundException",
};

/** Types by status, of what handlers and the engine report. */
const typesByStatus: Readonly<Record<number, string>> = {
  400: "BadRequestException",
  401: "InvalidKeyException",
  403: "IllegalArgumentException",
  404: "ResourceNotFoundException",
  405: "MethodNotAllowedException",
  408: "RequestTimeoutException",
  409: "ConflictStatusException",
};

/** What TorchServe says where nobody takes a request (ApiUtils.java), with its quotes: of a full queue and of a model without workers alike. */
export function noWorkerText(model: string, version: string | undefined): string {
  const named = version === undefined ? `Model "${model}"` : `Model "${model}" Version ${version}"`;
  return (
    `${named} has no worker to serve inference request. Please use scale workers API to add workers. ` +
    "If this is a sequence inference, please check if it is closed, or expired; or exceeds maxSequenceJobQueueSize"
  );
}

/** A batch that failed as a whole. TorchServe's library knows 413 by another number (RestJob.java). */
export function handlerFailed(code: number, message: string): TorchServeError {
  return new TorchServeError(code === 413 ? 507 : code, "InternalServerException", message);
}

export function typeOf(status: number): string {
  return typesByStatus[status] ?? "InternalServerException";
}

/** Any failure, in TorchServe's terms. */
export function toTorchServeError(error: unknown, queueFullStatus: 503 | 429 = 503): TorchServeError {
  if (error instanceof TorchServeError) return error;
  if (error instanceof AlreadyRegistered) return new TorchServeError(409, "ConflictStatusException", error.message);
  if (error instanceof DefaultVersionInUse)
    return new TorchServeError(403, "InvalidModelVersionException", error.message);
  if (error instanceof ServingError) {
    const { code, message, details } = error;
    const status = code === "queue_full" ? queueFullStatus : code === "request_timeout" ? 500 : error.status;
    const headers = details.retryAfterS === undefined ? {} : { "retry-after": String(details.retryAfterS) };
    return new TorchServeError(status, servingTypes[code], message, headers as Record<string, string>);
  }
  if (ShardspeedError.isInstance(error)) {
    const status = isOutOfSpace(error.cause) ? 507 : httpStatuses[error.code];
    return new TorchServeError(status, typeOf(status), error.message);
  }
  const { statusCode, message } = error as { statusCode?: number; message?: string };
  // Of Fastify: bodies that are too large, broken requests.
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500)
    return new TorchServeError(statusCode, typeOf(statusCode), message ?? "");
  return new TorchServeError(500, "InternalServerException", "The server failed: its log says why.");
}

/** JSON as TorchServe writes it: with an indent of 2, and a line break behind it. */
export function sendJson(reply: FastifyReply, status: number, value: unknown): FastifyReply {
  return reply
    .code(status)
    .header("content-type", "application/json")
    .send(Buffer.from(`${JSON.stringify(value, null, 2)}\n`));
}

export function sendError(reply: FastifyReply, { status, type, message, headers }: TorchServeError): FastifyReply {
  reply.headers({ ...headers, connection: "close" });
  // A handler may fail with any status. Node calls those that it does not know "unknown".
  if (STATUS_CODES[status] === undefined)
    reply.raw.statusMessage = `${status < 500 ? "Client" : "Server"} Error (${status})`;
  // TorchServe's HTTP library refuses such a body before TorchServe sees it.
  if (status === 413) return reply.code(413).send();
  return sendJson(reply, status, { code: status, type, message });
}
