import type { GenerationUsage } from "../../../engine/generation.js";
import type { ChatPrompt, GenerateCall } from "../../worker/calls.js";
import { readBody } from "./body.js";
import { ChatChoice, type ChatPiece } from "./chat_choice.js";
import { type ForcedCalls, readForced, readTools, type TemplateTool } from "./chat_tools.js";
import { invalidRequest } from "./errors.js";
import { type ChatBody, chatSchema } from "./fields.js";
import { checkRoom, generateAll } from "./generation.js";
import { toChatMessages } from "./messages.js";
import { checkSampling, type NewTokens, toCall } from "./sampling.js";
import { type OpenAiContext, requireTask, type Session } from "./session.js";
import type { OpenAiSettings } from "./settings.js";
import { checkStreamOptions } from "./stream.js";
import { toForcedFormat } from "./tools/forced_format.js";
import { detectToolFormat, type ToolFormat } from "./tools/format.js";
import { makeToolStream, type ToolStream } from "./tools/tool_stream.js";
import { refuseUnsupported, unsupported } from "./unsupported.js";

/** A checked request for an answer to a conversation. */
export interface ChatRequest {
  body: ChatBody;
  wanted: NewTokens;
  tools: TemplateTool[] | undefined;
  /** The answer has to be calls. */
  forced?: ForcedCalls | undefined;
}

/** What a worker is asked for, and what makes the answer's pieces of its parts. */
export interface ChatPlan {
  call: GenerateCall;
  choices: ChatChoice[];
  body: ChatBody;
  /** Tells calls of tools from text, of the first choice; undefined: all is text. */
  toolStream: ToolStream | undefined;
}

/** Checks all that needs no model. */
export function readChat(context: OpenAiContext, given: unknown): ChatRequest {
  const body = readBody(chatSchema, given);
  refuseUnsupported("chat", body);
  context.ignored.note("chat", body, chatSchema.shape);
  checkStreamOptions(body);
  if (typeof body.top_logprobs === "number" && body.logprobs !== true) {
    throw invalidRequest("invalid_value", "top_logprobs needs logprobs to be true.", "top_logprobs");
  }
  const wanted: NewTokens = {
    most: body.max_completion_tokens ?? body.max_tokens ?? undefined,
    field: typeof body.max_completion_tokens === "number" ? "max_completion_tokens" : "max_tokens",
    logprobs: body.logprobs ? (body.top_logprobs ?? 0) : undefined,
    promptLogprobs: body.prompt_logprobs ?? undefined,
  };
  checkSampling(body, wanted, context.settings);
  checkTemplateFields(body, context.settings);
  const tools = readTools(body);
  return { body, wanted, tools, forced: readForced(body, tools) };
}

type TemplateBody = Pick<
  ChatBody,
  "add_generation_prompt" | "continue_final_message" | "chat_template" | "chat_template_kwargs"
>;

/** Variables that are the request's own: by another name they would be checked. */
const ownVariables = ["messages", "tools", "documents", "add_generation_prompt", "continue_final_message"];

export function checkTemplateFields(body: TemplateBody, settings: OpenAiSettings): void {
  if (body.add_generation_prompt && body.continue_final_message) {
    const message = "add_generation_prompt opens a new turn and continue_final_message stays in the last one.";
    throw invalidRequest("invalid_value", message, "continue_final_message");
  }
  if (typeof body.chat_template === "string" && !settings.trustRequestChatTemplate) {
    const message = "chat_template of a request is a program, which this server does not run.";
    throw unsupported("chat_template", message);
  }
  for (const name of ownVariables) {
    if (!Object.hasOwn(body.chat_template_kwargs ?? {}, name)) continue;
    const path = `chat_template_kwargs.${name}`;
    throw invalidRequest("invalid_value", `${path} would replace what the request has as ${name}.`, path);
  }
}

/** The Jinja source of the template for a request; "" for none. */
export function templateOf(session: Session, body: TemplateBody, settings: OpenAiSettings): string {
  const template = body.chat_template ?? settings.chatTemplate;
  if (template === undefined) requireTask(session, "chat");
  return template ?? session.engine.chatTemplate ?? "";
}

/** The part of a conversation's prompt that /tokenize has too. */
export function toChatPrompt(
  body: TemplateBody & Pick<ChatBody, "messages">,
  template: string,
  tools: TemplateTool[] | undefined,
  settings: OpenAiSettings,
): ChatPrompt {
  const own = body.chat_template ?? settings.chatTemplate;
  const continues = body.continue_final_message ?? false;
  return {
    messages: toChatMessages(body.messages, template, findFormat(settings, template)),
    ...(tools === undefined ? {} : { tools }),
    addGenerationPrompt: body.add_generation_prompt ?? !continues,
    continueFinalMessage: continues,
    ...(own === undefined ? {} : { chatTemplate: own }),
    templateVariables: { ...settings.defaultChatTemplateKwargs, ...body.chat_template_kwargs },
  };
}

/** Renders nothing yet: that is the worker's. */
export function planChat(
  { settings }: OpenAiContext,
  session: Session,
  { body, wanted, tools, forced }: ChatRequest,
): ChatPlan {
  requireTask(session, "generate");
  const template = templateOf(session, body, settings);
  const format = findFormat(settings, template);
  const chat = toChatPrompt(body, template, tools, settings);
  const effort = body.reasoning_effort;
  if (effort) {
    const effortVariables = { reasoning_effort: effort, ...(effort === "none" ? { enable_thinking: false } : {}) };
    chat.templateVariables = { ...effortVariables, ...chat.templateVariables };
  }
  if (body.documents) chat.documents = body.documents;
  const parallelCalls = body.parallel_tool_calls ?? true;
  const count = body.n ?? 1;
  const toolStreams = Array.from({ length: count }, () =>
    tools === undefined || format === undefined
      ? undefined
      : makeToolStream(format, { names: new Set(tools.map((tool) => tool.function.name)), single: !parallelCalls }),
  );
  const [toolStream] = toolStreams;
  const asked = forced === undefined ? undefined : requireForced(format, forced);
  for (const stream of toolStreams) stream?.push(asked?.given ?? "");
  const call: GenerateCall = {
    prompt: { chat, addSpecialTokens: body.add_special_tokens ?? false },
    ...toCall(body, wanted, session.engine, settings),
    // Calls are written between special tokens.
    ...(toolStream === undefined ? {} : { skipSpecialTokens: false }),
  };
  if (asked !== undefined) call.options.format = asked.format;
  const choices = toolStreams.map(
    (stream, index) =>
      new ChatChoice({
        index,
        toolStream: stream,
        wantsLogprobs: body.logprobs === true,
        tokensAsIds: body.return_tokens_as_token_ids ?? settings.returnTokensAsTokenIds,
        wantsTokenIds: body.return_token_ids === true,
        promptLogprobs: body.prompt_logprobs ?? undefined,
        stopTokenIds: body.stop_token_ids ?? [],
      }),
  );
  return { call, choices, body, toolStream };
}

function requireForced(format: ToolFormat | undefined, forced: ForcedCalls) {
  const asked = toForcedFormat(format, forced);
  if (asked !== undefined) return asked;
  const message = `tool_choice cannot force a call of this model, whose calls are written as ${format ?? "nothing known here"}. Use "auto".`;
  throw unsupported("tool_choice", message);
}

function findFormat({ toolCallParser }: OpenAiSettings, template: string): ToolFormat | undefined {
  if (toolCallParser === "none") return undefined;
  return toolCallParser === "auto" ? detectToolFormat(template) : toolCallParser;
}

/** Generates, and gives the pieces of each step. */
export function runChat(
  session: Session,
  { call, choices, body }: ChatPlan,
  settings: OpenAiSettings,
  onPieces: (pieces: ChatPiece[], choice: ChatChoice) => void,
): Promise<GenerationUsage[]> {
  const asked = body.max_completion_tokens ?? body.max_tokens;
  return generateAll(
    session,
    [call],
    [
      {
        start: (start) => {
          if (settings.strictMaxTokens) checkRoom(start, asked, "messages", session);
          for (const choice of choices) choice.begin(start);
        },
        chunk: (chunk) => {
          const choice = choices[chunk.index ?? 0] as ChatChoice;
          onPieces(choice.take(chunk), choice);
        },
      },
    ],
  );
}
