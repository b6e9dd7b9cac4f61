import type { FastifyReply } from "fastify";
import { toEvent } from "../../http/sse.js";
import { type ChatPlan, planChat } from "../openai/chat_plan.js";
import { checkRoom, generateAll } from "../openai/generation.js";
import { toChatLogprob } from "../openai/logprobs.js";
import { newId, nowInSeconds } from "../openai/objects.js";
import { findModel, type OpenAiContext, type Session, setTimingHeaders, withSession } from "../openai/session.js";
import { type StreamForm, streamEvents } from "../openai/stream.js";
import { splitChunk } from "../openai/tools/deltas.js";
import type { ResponsesBody } from "./fields.js";
import { type ResponsesRequest, readRequest } from "./request.js";
import { type ResponseEvent, type ResponseHead, ResponseWriter } from "./writer.js";

const places = { count: 1, promptField: "input" };

/** POST /v1/responses. @returns The body, or undefined where the answer is a stream. */
export async function answerResponse(
  context: OpenAiContext,
  given: unknown,
  reply: FastifyReply,
): Promise<object | undefined> {
  const request = readRequest(context, given);
  const named = findModel(context, request.body.model);
  return withSession(context, named, reply, places, async (session) => {
    const plan = planChat(context, session, request.chat);
    const writer = new ResponseWriter(toHead(session, request.body, plan));
    if (!request.body.stream) {
      const response = await run(context, session, request, plan, writer, () => {});
      setTimingHeaders(reply, session.reservation);
      return response;
    }
    await streamEvents(context, reply, session.errors, toForm(writer), async (send) => {
      await run(context, session, request, plan, writer, (events) => send(toText(events)));
    });
    return undefined;
  });
}

/** POST /v1/responses/input_tokens */
export async function answerInputTokens(context: OpenAiContext, given: unknown, reply: FastifyReply): Promise<object> {
  const { body, chat } = readRequest(context, given);
  return withSession(context, findModel(context, body.model), reply, places, async (session) => {
    const { prompt } = planChat(context, session, chat).call;
    const { ids } = "ids" in prompt ? prompt : await session.call("tokenize", { prompt });
    return { object: "response.input_tokens", input_tokens: ids.length };
  });
}

function toText(events: readonly ResponseEvent[]): string {
  return events.map((event) => toEvent(event, event.type)).join("");
}

function toForm(writer: ResponseWriter): StreamForm {
  return {
    end: "",
    toFailure: ({ code, message, details }) => toText(writer.fail({ code, message, param: details.param ?? null })),
  };
}

async function run(
  { settings }: OpenAiContext,
  session: Session,
  { body, wantsLogprobs }: ResponsesRequest,
  { call, toolStream }: ChatPlan,
  writer: ResponseWriter,
  onEvents: (events: ResponseEvent[]) => void,
): Promise<object> {
  const asIds = body.return_tokens_as_token_ids ?? settings.returnTokensAsTokenIds;
  let reason: "stop" | "length" = "stop";
  const [usage] = await generateAll(
    session,
    [call],
    [
      {
        start: (start) => {
          if (settings.strictMaxTokens) checkRoom(start, body.max_output_tokens, "input", session);
        },
        chunk: (chunk) => {
          reason = chunk.finishReason ?? reason;
          const logprobs = wantsLogprobs ? (chunk.logprobs ?? []).map((one) => toChatLogprob(one, asIds)) : [];
          // With the first token: until there is one, a failure can still have a status.
          onEvents([...writer.begin(), ...writer.push(splitChunk(chunk, toolStream), logprobs)]);
        },
      },
    ],
  );
  const { events, response } = writer.end(reason, usage ?? { promptTokens: 0, newTokens: 0, cachedTokens: 0 });
  onEvents(events);
  return response;
}

/** What a response repeats of its request, with the values that were used. */
function toHead({ name }: Session, body: ResponsesBody, { call }: ChatPlan): ResponseHead {
  return {
    id: newId("resp_"),
    object: "response",
    created_at: nowInSeconds(),
    background: false,
    instructions: body.instructions ?? null,
    max_output_tokens: body.max_output_tokens ?? null,
    max_tool_calls: body.max_tool_calls ?? null,
    metadata: body.metadata ?? {},
    model: name,
    parallel_tool_calls: body.parallel_tool_calls ?? true,
    previous_response_id: null,
    reasoning: { effort: body.reasoning?.effort ?? null, summary: null },
    service_tier: "default",
    // Nothing is stored here.
    store: false,
    temperature: call.options.temperature ?? null,
    text: { format: body.text?.format ?? { type: "text" } },
    tool_choice: body.tool_choice ?? "auto",
    tools: (body.tools ?? []).map(({ type, name: tool, description, parameters, strict }) => ({
      ...{ type, name: tool, description: description ?? null },
      ...{ parameters: parameters ?? null, strict: strict ?? false },
    })),
    top_logprobs: body.top_logprobs ?? 0,
    top_p: call.options.topP ?? null,
    truncation: body.truncation ?? "disabled",
    user: body.user ?? null,
  };
}
