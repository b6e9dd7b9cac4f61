import type { FastifyReply } from "fastify";
import { type ChatChoice, type ChatPiece, joinChatPieces } from "./chat_choice.js";
import { type ChatPlan, planChat, readChat, runChat } from "./chat_plan.js";
import { lastFields, newHead, type Usage, withHead } from "./objects.js";
import { findModel, type OpenAiContext, type Session, setTimingHeaders, withSession } from "./session.js";
import { sendLast, streamChunks, usageOfChunk } from "./stream.js";

/** POST /v1/chat/completions. @returns The body, or undefined where the answer is a stream. */
export async function answerChat(
  context: OpenAiContext,
  given: unknown,
  reply: FastifyReply,
): Promise<object | undefined> {
  const request = readChat(context, given);
  const named = findModel(context, request.body.model);
  const places = { count: request.body.n ?? 1, promptField: "messages" };
  return withSession(context, named, reply, places, async (session) => {
    const plan = planChat(context, session, request);
    if (!request.body.stream) return answerWhole(context, session, plan, reply);
    await streamChunks(context, reply, session.errors, (send) => streamChat(context, session, plan, send));
    return undefined;
  });
}

async function answerWhole(
  { settings }: OpenAiContext,
  session: Session,
  plan: ChatPlan,
  reply: FastifyReply,
): Promise<object> {
  const { body, choices } = plan;
  const all = new Map(choices.map((choice): [ChatChoice, ChatPiece[]] => [choice, []]));
  const usages = await runChat(session, plan, settings, (pieces, choice) => all.get(choice)?.push(...pieces));
  const { usage, ...more } = lastFields(session, body, usages);
  setTimingHeaders(reply, session.reservation);
  return withHead(newHead(session, "chatcmpl-", "chat.completion"), {
    choices: choices.map((choice) => joinChatPieces(all.get(choice) ?? [], choice, body.logprobs === true)),
    usage: withDetails(usage),
    ...(body.return_token_ids ? { prompt_token_ids: choices[0]?.promptIds ?? [] } : {}),
    ...(choices[0]?.promptLogprobs === undefined ? {} : { prompt_logprobs: choices[0].promptLogprobs }),
    ...more,
  });
}

async function streamChat(
  { settings }: OpenAiContext,
  session: Session,
  plan: ChatPlan,
  send: (chunk: object) => void,
): Promise<void> {
  const { body } = plan;
  const head = newHead(session, "chatcmpl-", "chat.completion.chunk");
  let isFirst = true;
  const usages = await runChat(session, plan, settings, (pieces, choice) => {
    for (const piece of pieces) {
      const prompt = isFirst && body.return_token_ids ? { prompt_token_ids: choice.promptIds } : {};
      isFirst = false;
      const soFar = usageOfChunk(body, () => withDetails(choice.usage()));
      send(withHead(head, { choices: [piece], ...soFar, ...prompt }));
    }
  });
  const { usage, ...more } = lastFields(session, body, usages);
  sendLast(send, head, body, { usage: withDetails(usage), ...more });
}

/** No answer is split into reasoning and the rest yet. */
function withDetails(usage: Usage): Usage {
  return { ...usage, completion_tokens_details: { reasoning_tokens: 0 } };
}
