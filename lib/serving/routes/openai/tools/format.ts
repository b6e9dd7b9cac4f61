import { createHash } from "node:crypto";

/** How a model writes calls of tools; the names are those of vLLM's parsers. */
export type ToolFormat = "hermes" | "llama3_json" | "mistral" | "pythonic";

export const toolFormats: readonly ToolFormat[] = ["hermes", "llama3_json", "mistral", "pythonic"];

/**
 * The format that a chat template teaches its model. undefined where the template has no tools, or a format that is not read here
 * (Qwen3-Coder and GLM put their own tags within Hermes' tag).
 */
export function detectToolFormat(chatTemplate: string | undefined): ToolFormat | undefined {
  if (chatTemplate === undefined) return undefined;
  const has = (text: string) => chatTemplate.includes(text);
  if (has("<tool_call>")) return has("<function=") || has("<arg_key>") ? undefined : "hermes";
  if (has("[TOOL_CALLS]")) return "mistral";
  // Templates of Llama 3.2 and 4 have the tags of several formats: the sentence that asks for one of them decides.
  if (/\[\w*func\w*\(\w+\s*=/.test(chatTemplate)) return "pythonic";
  if (has("<|python_tag|>") || /"parameters": ?(dict|\{)/.test(chatTemplate)) return "llama3_json";
  return has("<|python_start|>") ? "pythonic" : undefined;
}

const alphanumerics = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/**
 * A call's id as the model's template takes it. Mistral's refuses all but 9 letters and digits, whereas clients send back `call_...`
 * of ours or of another server: equal ids become equal ids, so that a result still has the id of its call.
 */
export function toTemplateCallId(format: ToolFormat | undefined, id: string): string {
  if (format !== "mistral" || /^[0-9A-Za-z]{9}$/.test(id)) return id;
  const digest = createHash("sha256").update(id).digest();
  return Array.from(digest.subarray(0, 9), (byte) => alphanumerics[byte % alphanumerics.length]).join("");
}
