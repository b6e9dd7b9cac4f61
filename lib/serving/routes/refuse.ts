import type { FastifyReply } from "fastify";
import type { OnBadUrl } from "../http/app.js";
import type { OnRefuse } from "../http/refusal.js";
import { ApiError } from "./openai/errors.js";
import { badRequest, notFound, sendError, TorchServeError } from "./torchserve/errors.js";

/** Whether a URL is of TorchServe's APIs, which have their own form of errors. */
export function isTorchServeUrl(url: string): boolean {
  return /^\/(predictions|explanations|models|invocations|api-description|ping|metrics)(\/|\?|$)|^\/v1\/models\/[^/]+:(predict|explain)/.test(
    url,
  );
}

/** Refuses a request, in the form that the clients of its API read. */
export const refuseInItsForm: OnRefuse = (reply: FastifyReply, status, code, message) => {
  const { url } = reply.request;
  if (isTorchServeUrl(url)) {
    const type = status === 401 ? "InvalidKeyException" : "IllegalArgumentException";
    return sendError(reply, new TorchServeError(status, type, message));
  }
  if (/^\/v2(\/|\?|$)/.test(url)) return reply.code(status).send({ error: message });
  if (/^\/v1\/messages(\/|\?|$)/.test(url)) {
    const type = status === 401 ? "authentication_error" : "permission_error";
    return reply.code(status).send({ type: "error", error: { type, message } });
  }
  const type = status === 401 ? "authentication_error" : "permission_error";
  return reply.code(status).send(new ApiError(status, type, code, message).body);
};

/** Refuses a URL that cannot be read, or that has a part longer than any name is: nothing has such a name. */
export const refuseUrl: OnBadUrl = (error, { method, url }, reply) => {
  const [path = ""] = url.split("?");
  const isUnreadable = (error as { code?: unknown }).code === "FST_ERR_BAD_URL";
  const shown = `${method} ${path.slice(0, 200)}`;
  const text = isUnreadable
    ? `The URL has a percent sign without two hexadecimal digits of UTF-8 behind it: ${shown}.`
    : `Unknown request URL: ${shown}.`;
  if (isTorchServeUrl(url)) return void sendError(reply, isUnreadable ? badRequest(text) : notFound());
  const status = isUnreadable ? 400 : 404;
  reply.code(status);
  if (/^\/v2(\/|\?|$)/.test(url)) return void reply.send({ error: text });
  if (/^\/v1\/messages(\/|\?|$)/.test(url)) {
    const type = isUnreadable ? "invalid_request_error" : "not_found_error";
    return void reply.send({ type: "error", error: { type, message: text } });
  }
  reply.send(new ApiError(status, "invalid_request_error", isUnreadable ? "invalid_url" : "unknown_url", text).body);
};
