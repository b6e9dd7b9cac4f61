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
  const isNamed = isObject(choice) && choice.type === "function";
  if (choice !== "auto" && choice !== "required" && !isNamed) return readAllowed(choice, known);
  if (known.length > 0) return known;
  if (choice === "auto") return undefined;
  throw invalidRequest(
    "invalid_value",
    "tool_choice asks for a call of a tool, and there are no tools.",
    "tool_choice",
  );
}

/** Calls that an answer has to be. */
export interface ForcedCalls {
  /** What may be called. */
  tools: readonly TemplateTool[];
  /** Names of tools whose arguments have no properties but those of the schema. */
  strict: ReadonlySet<string>;
  /** Exactly one call. */
  single: boolean;
}

/**
 * Which tools an answer has to call, for a tool_choice that forces one; undefined: the model decides.
 *
 * @param shown What readTools() made of the same fields.
 */
export function readForced(
  {
    tools,
    tool_choice: choice,
    parallel_tool_calls: parallel,
  }: Pick<ChatBody, "tools" | "tool_choice" | "parallel_tool_calls">,
  shown: readonly TemplateTool[] | undefined,
): ForcedCalls | undefined {
  if (shown === undefined || choice === "none") return undefined;
  const isNamed = isObject(choice) && choice.type === "function";
  const allowed = isObject(choice) && isObject(choice.allowed_tools) ? choice.allowed_tools : undefined;
  if (choice !== "required" && !isNamed && allowed?.mode !== "required") return undefined;
  const strict = new Set((tools ?? []).flatMap(({ function: one }) => (one?.strict === true ? [one.name] : [])));
  if (!isNamed) return { tools: shown, strict, single: parallel === false };
  const name = isObject(choice.function) ? choice.function.name : undefined;
  const tool = shown.find((one) => one.function.name === name);
  if (tool !== undefined) return { tools: [tool], strict, single: true };
  const param = "tool_choice.function.name";
  throw invalidRequest("invalid_value", `${param} is none of the tools: ${showValue(name)}.`, param);
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
  if (!isObject(allowed) || !["auto", "required"].includes(String(allowed.mode)) || !Array.isArray(allowed.tools)) {
    const message = `Expected tool_choice to be "none", "auto", "required", a function, or allowed_tools with a mode and a list of tools, found ${showValue(choice)}.`;
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
