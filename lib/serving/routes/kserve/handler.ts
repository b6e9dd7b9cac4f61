import { randomUUID } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import { abortOnDisconnect } from "../../http/disconnect.js";
import { ApiError } from "../openai/errors.js";
import type { NamedModel } from "../openai/session.js";
import { sendUntyped, setHeaders } from "../torchserve/inference.js";
import { readHeaders } from "../torchserve/request_parts.js";
import { rawBodyOf } from "./raw_body.js";

/**
 * POST /v2/models/{name}/infer and /explain of a model that a handler answers for: it gets the body as it is, and so does the client its answer, of the
 * type that the handler says, as with TorchServe.
 */
export async function answerByHandler(
  { model }: NamedModel,
  request: FastifyRequest,
  reply: FastifyReply,
  explains = false,
): Promise<undefined> {
  const intermediate: Buffer[] = [];
  const answer = await model.predict(
    {
      id: randomUUID(),
      parts: [{ name: "body", contentType: "application/json", value: rawBodyOf(request) }],
      headers: { ...readHeaders(request), explain: explains ? "True" : "False" },
    },
    { signal: abortOnDisconnect(reply), onPart: (part) => intermediate.push(part.body) },
  );
  if (answer.code !== 200) {
    throw new ApiError(answer.code, "server_error", "handler_failed", answer.message);
  }
  const { response } = answer;
  const body = Buffer.concat([...intermediate, response.body]);
  setHeaders(reply, response.headers);
  reply.code(response.status);
  if (response.contentType === undefined) sendUntyped(reply, body);
  else reply.header("content-type", response.contentType).send(body);
}
