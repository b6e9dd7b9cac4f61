import type { FastifyInstance, FastifyReply } from "fastify";
import { toEvent } from "../../http/sse.js";
import type { ApiRoute } from "../openai/api_route.js";
import { type ChatPlan, planChat } from "../openai/chat_plan.js";
import { checkRoom, generateAll, toStopReason } from "../openai/generation.js";
import { describeRoutes } from "../openai/openapi.js";
import { addFamily, makeContext, type OpenAiOptions } from "../openai/plugin.js";
import {
  type DocumentPart,
  findModel,
  type OpenAiContext,
  type Session,
  setTimingHeaders,
  withSession,
} from "../openai/session.js";
import { type StreamForm, streamEvents } from "../openai/stream.js";
import { splitChunk } from "../openai/tools/deltas.js";
import * as answers from "./answers.js";
import { toErrorBody } from "./errors.js";
import { countTokensSchema, messagesSchema } from "./fields.js";
import { type MessagesRequest, readMessages, readPrompt } from "./request.js";
import { type MessageEnd, type MessageEvent, MessageWriter } from "./writer.js";

const places = { count: 1, promptField: "messages" };

const streamForm: StreamForm = {
  end: "",
  toFailure: (failure) => toEvent(toErrorBody(failure), "error"),
};

/** Anthropic's Messages API as a Fastify plugin. Its errors have Anthropic's form. */
export async function anthropicRoutes(app: FastifyInstance, options: OpenAiOptions): Promise<void> {
  // By this name Anthropic's clients know it.
  app.addHook("onSend", async (_, reply) => {
    reply.header("request-id", reply.getHeader("x-request-id"));
  });
  await addFamily(app, makeContext(options), {
    prefix: "/v1/messages",
    toBody: toErrorBody,
    routes,
  });
}

const routes: readonly ApiRoute[] = [
  {
    method: "POST",
    urls: ["/v1/messages"],
    operation: "createMessage",
    summary: "Answer a conversation, as Anthropic's API does",
    body: messagesSchema,
    answer: answers.messageAnswer,
    chunk: answers.messageEvent,
    handle: (context, { body }, reply) => answerMessage(context, body, reply),
  },
  {
    method: "POST",
    urls: ["/v1/messages/count_tokens"],
    operation: "countMessageTokens",
    summary: "Count the tokens of a conversation, as Anthropic's API does",
    body: countTokensSchema,
    answer: answers.countTokensAnswer,
    handle: (context, { body }, reply) => countTokens(context, body, reply),
  },
];

export function describeMessages(): DocumentPart {
  return describeRoutes(routes, { name: "MessagesError", schema: answers.messagesError });
}

/** @returns The body, or undefined where the answer is a stream. */
async function answerMessage(context: OpenAiContext, given: unknown, reply: FastifyReply): Promise<object | undefined> {
  const request = readMessages(context, given);
  const named = findModel(context, request.body.model);
  return withSession(context, named, reply, places, async (session) => {
    const plan = planChat(context, session, request.chat);
    if (!request.body.stream) {
      const message = await run(context, session, request, plan, () => {});
      setTimingHeaders(reply, session.reservation);
      return message;
    }
    await streamEvents(context, reply, session.errors, streamForm, async (send) => {
      await run(context, session, request, plan, (events) => {
        send(events.map((event) => toEvent(event, event.type)).join(""));
      });
    });
    return undefined;
  });
}

async function countTokens(context: OpenAiContext, given: unknown, reply: FastifyReply): Promise<object> {
  const { body, chat } = readPrompt(given);
  return withSession(context, findModel(context, body.model), reply, places, async (session) => {
    const { prompt } = planChat(context, session, chat).call;
    const { ids } = "ids" in prompt ? prompt : await session.call("tokenize", { prompt });
    return { input_tokens: ids.length };
  });
}

async function run(
  { settings }: OpenAiContext,
  session: Session,
  { body }: MessagesRequest,
  { call, toolStream }: ChatPlan,
  onEvents: (events: MessageEvent[]) => void,
): Promise<object> {
  const writer = new MessageWriter(session.name);
  const ending: Omit<MessageEnd, "usage"> = { reason: "stop", stopSequence: null };
  let begun = { promptTokens: 0, newTokens: 0, cachedTokens: 0 };
  const [usage = begun] = await generateAll(
    session,
    [call],
    [
      {
        start: (start) => {
          if (settings.strictMaxTokens) checkRoom(start, body.max_tokens, "messages", session);
          begun = { ...begun, promptTokens: start.promptTokens, cachedTokens: start.cachedTokens ?? 0 };
        },
        chunk: (chunk) => {
          if (chunk.finishReason !== undefined) {
            ending.reason = chunk.finishReason;
            const stop = toStopReason(chunk, []);
            // The model's generation_config.json may have strings of its own that end texts.
            if (typeof stop === "string" && body.stop_sequences?.includes(stop)) ending.stopSequence = stop;
          }
          // With the first token: until there is one, a failure can still have a status.
          onEvents([...writer.begin(begun), ...writer.push(splitChunk(chunk, toolStream))]);
        },
      },
    ],
  );
  const { events, message } = writer.end({ ...ending, usage });
  onEvents(events);
  return message;
}
