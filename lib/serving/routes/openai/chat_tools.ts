import { isObject } from "../../../base/objects.js";
import { showValue } from "../../../base/text.js";
import { invalidRequest } from "./errors.js";
import type { ChatBody, ToolBody } from "./fields.js";

/**
 * The tools that a template shows to the model: of tool_choice "none" none, of allowed_tools those that it names.
 *
 * @returns undefined where there are none.
 * @throws ApiError for a tool or a choice that is none.
 */
export function readTools({ tools, tool_choice }: Pick<ChatBody, "tools" | "tool_choice">): TemplateTool[] | undefined {
  const known = (tools ?? []).map(toTemplateTool);
  const choice = tool_choice ?? "auto";
  if (choice === "none") return undefined;
  if (choice !== "auto") return readAllowed(choice, known);
  return known.length > 0 ? known : undefined;
}

/** A tool as chat templates take it. */
export interface TemplateTool {
  type: "function";
  function: { name: string; description?: string; parameters: object };
}

function toTemplateTool({ type, function: given }: ToolBody, i: number): TemplateTool {
  const path = `tools[${i}]`;
  if (type !== "function") {
    const message = `Expected ${path}.type to be "function", found ${showValue(type)}.`;
    throw invalidRequest("unsupported_value", message, `${path}.type`);
  }
  if (!given) {
    throw invalidRequest(
      "missing_required_parameter",
      `Missing required parameter: ${path}.function.`,
      `${path}.function`,
    );
  }
  const { name, description, parameters } = given;
  return {
    type,
    function: {
      name,
      ...(description ? { description } : {}),
      parameters: parameters ?? { type: "object", properties: {} },
    },
  };
}

function readAllowed(choice: unknown, known: readonly TemplateTool[]): TemplateTool[] | undefined {
  const allowed = isObject(choice) && choice.type === "allowed_tools" ? choice.allowed_tools : undefined;
  if (!isObject(allowed) || allowed.mode !== "auto" || !Array.isArray(allowed.tools)) {
    const message = `Expected tool_choice to be "none", "auto" or allowed_tools with the mode "auto" and a list of tools, found ${showValue(choice)}.`;
    throw invalidRequest("invalid_value", message, "tool_choice");
  }
  const picked = allowed.tools.map((one: unknown, i) => {
    const name = isObject(one) && isObject(one.function) ? one.function.name : undefined;
    const tool = known.find(({ function: { name: own } }) => own === name);
    if (tool !== undefined) return tool;
    const path = `tool_choice.allowed_tools.tools[${i}]`;
    throw invalidRequest("invalid_value", `${path} is none of the tools: ${showValue(name ?? one)}.`, path);
  });
  return picked.length > 0 ? picked : undefined;
}
