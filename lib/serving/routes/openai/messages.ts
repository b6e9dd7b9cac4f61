import { isObject } from "../../../base/objects.js";
import { showValue } from "../../../base/text.js";
import { parseCallArguments } from "../../../engine/prompts.js";
import { templateReadsParts } from "../../../tokenizer/chat_template.js";
import type { ChatMessage } from "../../../tokenizer/types.js";
import { invalidRequest } from "./errors.js";
import type { MessageBody } from "./fields.js";
import { wellFormed } from "./prompts.js";
import { type ToolFormat, toTemplateCallId } from "./tools/format.js";

const roles = ["system", "user", "assistant", "tool"];
/** Names that templates may not know, and what they are to those. */
const otherRoles: Readonly<Record<string, string>> = { developer: "system", function: "tool" };

/**
 * Messages as chat templates take them.
 *
 * @param template The Jinja source that will render them.
 * @param format How the model writes calls, whose ids its template may restrict.
 * @throws ApiError for roles and parts that it cannot show: none is left out in silence.
 */
export function toChatMessages(
  messages: readonly MessageBody[],
  template: string,
  format: ToolFormat | undefined,
): ChatMessage[] {
  const toolNames = new Map<string, string>();
  return messages.map((message, i) => {
    const path = `messages[${i}]`;
    const role = readRole(message.role, template, `${path}.role`);
    const { content: _, tool_calls: calls, tool_call_id: callId, name, ...others } = message;
    for (const { id, function: called } of calls ?? []) if (typeof id === "string") toolNames.set(id, called.name);
    // Many templates name the tool whose result it is.
    const ofCall = role === "tool" ? toolNames.get(callId ?? "") : undefined;
    return {
      ...others,
      role,
      content: readContent(message, role, template, `${path}.content`),
      ...((name ?? ofCall) ? { name: name ?? ofCall } : {}),
      ...(callId ? { tool_call_id: toTemplateCallId(format, callId) } : {}),
      ...(calls && calls.length > 0 ? { tool_calls: calls.map((call) => toTemplateCall(call, format)) } : {}),
    };
  });
}

function readRole(given: string, template: string, path: string): string {
  const role = given.toLowerCase();
  const isKnown = (name: string) => template.includes(`"${name}"`) || template.includes(`'${name}'`);
  if (roles.includes(role) || isKnown(role)) return role;
  const mapped = Object.hasOwn(otherRoles, role) ? otherRoles[role] : undefined;
  if (mapped !== undefined) return mapped;
  const known = [...roles, ...Object.keys(otherRoles)].join(", ");
  throw invalidRequest("invalid_value", `Expected ${path} to be one of ${known}, found ${showValue(given)}.`, path);
}

/** Text, or for templates that go over parts a list of them. */
function readContent({ content, tool_calls }: MessageBody, role: string, template: string, path: string): unknown {
  if (typeof content === "string") return wellFormed(content);
  if (content === null || content === undefined) {
    if (role === "assistant") return tool_calls?.length ? null : "";
    throw invalidRequest("missing_required_parameter", `Missing required parameter: ${path}.`, path);
  }
  if (!Array.isArray(content)) {
    const message = `Expected ${path} to be a string or an array of parts, found ${showValue(content)}.`;
    throw invalidRequest("invalid_type", message, path);
  }
  const texts = content.map((part: unknown, i) => readPart(part, role, `${path}[${i}]`));
  if (texts.length < 2) return texts[0] ?? "";
  return templateReadsParts(template) ? texts.map((text) => ({ type: "text", text })) : texts.join("\n");
}

function readPart(part: unknown, role: string, path: string): string {
  if (!isObject(part)) {
    throw invalidRequest("invalid_type", `Expected ${path} to be an object, found ${showValue(part)}.`, path);
  }
  const field = part.type === "refusal" && role === "assistant" ? "refusal" : "text";
  if (part.type !== field) {
    const message = `${path} has the type ${showValue(part.type)}, expected "text": the model reads text only.`;
    throw invalidRequest("unsupported_value", message, `${path}.type`);
  }
  const text = part[field];
  if (typeof text === "string") return wellFormed(text);
  const message = `Expected ${path}.${field} to be a string, found ${showValue(text)}.`;
  throw invalidRequest("invalid_type", message, `${path}.${field}`);
}

function toTemplateCall(call: NonNullable<MessageBody["tool_calls"]>[number], format: ToolFormat | undefined): object {
  const { id, function: called } = call;
  return {
    ...call,
    ...(id ? { id: toTemplateCallId(format, id) } : {}),
    type: "function",
    function: { name: called.name, arguments: parseCallArguments(called.arguments) },
  };
}
