import { isObject } from "../../../base/objects.js";
import { readBody } from "../openai/body.js";
import type { ChatRequest } from "../openai/chat_plan.js";
import { readForced, readTools } from "../openai/chat_tools.js";
import type { ChatBody } from "../openai/fields.js";
import { checkSampling, type NewTokens } from "../openai/sampling.js";
import type { OpenAiContext } from "../openai/session.js";
import { type ResponsesBody, responsesSchema } from "./fields.js";
import { toMessages } from "./input.js";
import { refuseUnsupported } from "./unsupported.js";

/** A checked request, and the conversation that it is. */
export interface ResponsesRequest {
  body: ResponsesBody;
  chat: ChatRequest;
  wantsLogprobs: boolean;
}

/** Checks all that needs no model. */
export function readRequest(context: OpenAiContext, given: unknown): ResponsesRequest {
  const body = readBody(responsesSchema, given, []);
  refuseUnsupported(body);
  context.ignored.note("responses", body, responsesSchema.shape);
  const wantsLogprobs = body.include?.includes("message.output_text.logprobs") === true || (body.top_logprobs ?? 0) > 0;
  const wanted: NewTokens = {
    most: body.max_output_tokens ?? undefined,
    field: "max_output_tokens",
    logprobs: wantsLogprobs ? (body.top_logprobs ?? 0) : undefined,
  };
  const chatBody = toChatBody(body, wantsLogprobs);
  checkSampling(chatBody, wanted, context.settings);
  const tools = readTools(chatBody);
  return { body, wantsLogprobs, chat: { body: chatBody, wanted, tools, forced: readForced(chatBody, tools) } };
}

/** The request in the form of chat completions. */
function toChatBody(body: ResponsesBody, wantsLogprobs: boolean): ChatBody {
  const { input: _, instructions: _system, tools, tool_choice, text: form, reasoning, ...others } = body;
  return {
    ...others,
    messages: toMessages(body),
    tools: (tools ?? []).map(({ type, name, description, parameters, strict }) => ({
      type,
      function: { name: name ?? "", description, parameters, strict },
    })),
    tool_choice: toChatChoice(tool_choice),
    response_format: form?.format,
    logprobs: wantsLogprobs,
    max_completion_tokens: body.max_output_tokens,
    reasoning_effort: reasoning?.effort,
    // What does not fit is left out ahead, as vLLM does it.
    truncate_prompt_tokens: body.truncate_prompt_tokens ?? (body.truncation === "auto" ? -1 : undefined),
  };
}

/** Here names stand beside `type`, there in an object of their own. */
function toChatChoice(choice: ResponsesBody["tool_choice"]): ChatBody["tool_choice"] {
  if (!isObject(choice)) return choice;
  if (choice.type === "function") return { type: "function", function: { name: choice.name } };
  if (choice.type !== "allowed_tools") return choice;
  const tools = Array.isArray(choice.tools) ? choice.tools : [];
  const named = tools.map((tool: unknown) => ({
    type: "function",
    function: { name: isObject(tool) ? tool.name : undefined },
  }));
  return { type: "allowed_tools", allowed_tools: { mode: choice.mode, tools: named } };
}
