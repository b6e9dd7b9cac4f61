import type { FastifyReply } from "fastify";
import type { OnRefuse } from "../http/refusal.js";
import { ApiError } from "./openai/errors.js";
import { sendError, TorchServeError } from "./torchserve/errors.js";

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
