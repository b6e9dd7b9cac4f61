import { showValue } from "../../../base/text.js";
import { readBody } from "../openai/body.js";
import type { ChatRequest } from "../openai/chat_plan.js";
import { readForced, readTools } from "../openai/chat_tools.js";
import { invalidRequest } from "../openai/errors.js";
import type { ChatBody } from "../openai/fields.js";
import { checkSampling, type NewTokens } from "../openai/sampling.js";
import type { OpenAiContext } from "../openai/session.js";
import { countTokensSchema, type MessagesBody, messagesSchema, type PromptBody } from "./fields.js";
import { toMessages } from "./input.js";

/** A checked request, and the conversation that it is. */
export interface MessagesRequest {
  body: MessagesBody;
  chat: ChatRequest;
}

/** Checks all that needs no model. */
export function readMessages(context: OpenAiContext, given: unknown): MessagesRequest {
  const body = readBody(messagesSchema, given);
  context.ignored.note("messages", body, messagesSchema.shape);
  const { output_format: form, output_config: config } = body;
  const wanted: NewTokens = { most: body.max_tokens, field: "max_tokens" };
  const chatBody: ChatBody = {
    ...toChatBody(body),
    stop: body.stop_sequences,
    temperature: body.temperature,
    top_k: body.top_k,
    top_p: body.top_p,
    max_tokens: body.max_tokens,
    response_format: form ?? config?.format,
  };
  checkSampling(chatBody, wanted, context.settings);
  const tools = readTools(chatBody);
  return { body, chat: { body: chatBody, wanted, tools, forced: readForced(chatBody, tools) } };
}

/** The same for a prompt that is only counted. */
export function readPrompt(given: unknown): { body: PromptBody; chat: ChatRequest } {
  const body = readBody(countTokensSchema, given);
  const chatBody = toChatBody(body);
  return { body, chat: { body: chatBody, wanted: { field: "max_tokens" }, tools: readTools(chatBody) } };
}

/** The prompt in the form of chat completions. */
function toChatBody(body: PromptBody): ChatBody {
  const { tools, tool_choice: choice } = body;
  if (body.mcp_servers && body.mcp_servers.length > 0) refuse("mcp_servers", "Tools run at the client.");
  return {
    model: body.model,
    messages: toMessages(body),
    tools: (tools ?? []).map(({ type, name, description, input_schema }, i) => {
      if (isSet(type) && type !== "custom")
        refuse(`tools[${i}].type`, `There are no tools of the type ${showValue(type)}.`);
      return { type: "function", function: { name, description, parameters: input_schema } };
    }),
    tool_choice: toChatChoice(choice),
    parallel_tool_calls: choice?.disable_parallel_tool_use !== true,
  };
}

function toChatChoice(choice: PromptBody["tool_choice"]): ChatBody["tool_choice"] {
  if (choice?.type === "any") return "required";
  if (choice?.type === "tool") return { type: "function", function: { name: choice.name } };
  if (!choice || choice.type === "auto" || choice.type === "none") return choice?.type;
  const message = `Expected tool_choice.type to be "auto", "any", "tool" or "none", found ${showValue(choice.type)}.`;
  throw invalidRequest("invalid_value", message, "tool_choice.type");
}

const isSet = (value: unknown) => value !== undefined && value !== null;

function refuse(param: string, advice: string): never {
  throw invalidRequest("unsupported_parameter", `${param} is not supported. ${advice}`, param);
}
