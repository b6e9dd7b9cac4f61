import { randomUUID } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import type { FastifyReply } from "fastify";
import { abortOnDisconnect } from "../../http/disconnect.js";
import { ApiError } from "../openai/errors.js";
import type { NamedModel } from "../openai/session.js";

/** POST /v2/models/{name}/infer of a model that a handler answers for: it gets the body as it is, and so does the client its answer. */
export async function answerByHandler(
  { model }: NamedModel,
  body: unknown,
  headers: IncomingHttpHeaders,
  reply: FastifyReply,
): Promise<object> {
  const given = Object.entries(headers).filter((entry): entry is [string, string] => typeof entry[1] === "string");
  const intermediate: Buffer[] = [];
  const answer = await model.predict(
    {
      id: randomUUID(),
      parts: [{ name: "body", contentType: "application/json", value: JSON.stringify(body) }],
      headers: Object.fromEntries(given),
    },
    { signal: abortOnDisconnect(reply), onPart: (part) => intermediate.push(part.body) },
  );
  if (answer.code !== 200) {
    throw new ApiError(answer.code, "server_error", "handler_failed", answer.message);
  }
  const { response } = answer;
  reply
    .code(response.status)
    .headers({ ...response.headers, "content-type": response.contentType ?? "application/json" });
  return Buffer.concat([...intermediate, response.body]);
}
