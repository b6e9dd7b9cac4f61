import type { GenerateChunk } from "../../../worker/calls.js";
import type { ToolDelta, ToolStream } from "./tool_stream.js";

/** The pieces of a chunk; without tools it is all text. */
export function splitChunk({ text, finishReason }: GenerateChunk, tools: ToolStream | undefined): ToolDelta[] {
  if (tools === undefined) return text === "" ? [] : [{ kind: "text", text }];
  const deltas = tools.push(text);
  return finishReason === undefined ? deltas : [...deltas, ...tools.end(finishReason)];
}

/** A call of a tool. */
export interface ToolCall {
  id: string;
  name: string;
  /** JSON text: an object, unless the answer was cut off. */
  arguments: string;
}

/** What is said and called in all pieces of an answer; calls that turned out malformed are text. */
export function joinToolDeltas(deltas: Iterable<ToolDelta>): { text: string; calls: ToolCall[] } {
  const calls = new Map<number, ToolCall>();
  let text = "";
  for (const delta of deltas) {
    if (delta.kind === "text") {
      text += delta.text;
      if (delta.abandons !== undefined) calls.delete(delta.abandons);
    } else if (delta.kind === "call") {
      calls.set(delta.index, { id: delta.id, name: delta.name, arguments: "" });
    } else {
      const call = calls.get(delta.index);
      if (call !== undefined) call.arguments += delta.text;
    }
  }
  return { text, calls: [...calls.values()] };
}
