import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { nearestKey } from "../base/nearest.js";
import { unknownName } from "../base/option_reader.js";
import type { ChatTemplateOptions } from "./types.js";

/** Options of a chat template with their defaults. */
export interface ChatSettings {
  tokenize: boolean;
  addGenerationPrompt: boolean;
  continueFinalMessage: boolean;
  tools: readonly object[] | undefined;
  documents: readonly object[] | undefined;
  chatTemplate: string | undefined;
  templateVariables: Record<string, unknown>;
}

/** Our names by those that transformers has. */
const pythonNames: Record<string, keyof ChatSettings> = {
  add_generation_prompt: "addGenerationPrompt",
  continue_final_message: "continueFinalMessage",
  chat_template: "chatTemplate",
  template_variables: "templateVariables",
  chat_template_kwargs: "templateVariables",
};
const names: readonly string[] = [
  ...["tokenize", "addGenerationPrompt", "continueFinalMessage", "tools"],
  ...["documents", "chatTemplate", "templateVariables"],
];
/** Options of transformers that have no meaning here; each with what to do instead. */
const refused: Record<string, string> = {
  return_tensors: "ids come back as an array",
  return_dict: "ids come back as an array",
  return_assistant_tokens_mask: "there is no mask of the assistant's tokens",
  tokenizer_kwargs: "render with tokenize: false and call the tokenizer with the text",
  padding: "render with tokenize: false and call the tokenizer with the texts",
  truncation: "render with tokenize: false and call the tokenizer with the text",
  max_length: "render with tokenize: false and call the tokenizer with the text",
  sanitize_control_tokens: "special tokens in messages are tokens",
};

/** @throws ShardspeedError ERR_INVALID_ARGUMENT for names and values that are not known: none is ignored. */
export function readChatOptions(options: ChatTemplateOptions | undefined): ChatSettings {
  if (options !== undefined && (typeof options !== "object" || options === null || Array.isArray(options))) {
    throw invalidArgument("the applyChatTemplate options", "an object", options);
  }
  const given = new Map<string, unknown>();
  for (const [found, value] of Object.entries(options ?? {})) {
    if (value === undefined) continue;
    const name = Object.hasOwn(pythonNames, found) ? (pythonNames[found] as string) : found;
    if (!names.includes(name)) throw unknownOption(found);
    if (given.has(name)) {
      throw new ShardspeedError("ERR_INVALID_ARGUMENT", `${found} and ${name} are one option: give one of them.`);
    }
    given.set(name, value);
  }
  const settings = {
    tokenize: readBoolean(given, "tokenize", true),
    addGenerationPrompt: readBoolean(given, "addGenerationPrompt", false),
    continueFinalMessage: readBoolean(given, "continueFinalMessage", false),
    tools: readObjects(given, "tools"),
    documents: readObjects(given, "documents"),
    chatTemplate: given.get("chatTemplate") as string | undefined,
    templateVariables: readVariables(given.get("templateVariables")),
  };
  if (settings.chatTemplate !== undefined && typeof settings.chatTemplate !== "string") {
    throw invalidArgument("chatTemplate", "a string", settings.chatTemplate);
  }
  if (settings.addGenerationPrompt && settings.continueFinalMessage) {
    throw new ShardspeedError(
      "ERR_INVALID_ARGUMENT",
      "addGenerationPrompt opens a new turn and continueFinalMessage stays in the last one: give one of them.",
    );
  }
  return settings;
}

function unknownOption(found: string): ShardspeedError {
  const snake = found.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  const reason = Object.hasOwn(refused, snake) ? refused[snake] : undefined;
  const near = nearestKey(found, names);
  const advice =
    reason !== undefined
      ? `Not supported: ${reason}.`
      : near !== undefined
        ? `Did you mean ${near}?`
        : `What the template itself reads goes into templateVariables: { ${found}: ... }. Known are: ${names.join(", ")}.`;
  return unknownName("applyChatTemplate option", found, advice);
}

function readBoolean(given: ReadonlyMap<string, unknown>, name: string, unset: boolean): boolean {
  const value = given.get(name) ?? unset;
  if (typeof value !== "boolean") throw invalidArgument(name, "true or false", value);
  return value;
}

/** null stands for none, as in transformers. */
function readObjects(given: ReadonlyMap<string, unknown>, name: string): readonly object[] | undefined {
  const value = given.get(name) ?? undefined;
  if (value === undefined) return undefined;
  if (!Array.isArray(value) || !value.every((one) => typeof one === "object" && one !== null)) {
    throw invalidArgument(name, "an array of objects", value);
  }
  return value;
}

function readVariables(value: unknown): Record<string, unknown> {
  if (value === undefined || value === null) return {};
  if (typeof value !== "object" || Array.isArray(value)) {
    throw invalidArgument("templateVariables", "an object", value);
  }
  return value as Record<string, unknown>;
}
