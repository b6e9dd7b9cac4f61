import { joinToolDeltas } from "../../../dist/serving/routes/openai/tools/deltas.js";
import type { ToolFormat } from "../../../dist/serving/routes/openai/tools/format.js";
import {
  makeToolStream,
  type ToolDelta,
  type ToolStreamOptions,
} from "../../../dist/serving/routes/openai/tools/tool_stream.js";

export interface End extends ToolStreamOptions {
  reason?: "stop" | "length";
}

/** Reads a text in pieces; ids are "1", "2" and so on. */
export function readPieces(
  format: ToolFormat,
  pieces: readonly string[],
  { reason, ...options }: End = {},
): ToolDelta[] {
  let ids = 0;
  const stream = makeToolStream(format, { newId: () => String(++ids), ...options });
  const deltas = pieces.flatMap((piece) => stream.push(piece));
  return [...deltas, ...stream.end(reason)];
}

/** Text, and calls as [name, arguments]. */
export function read(format: ToolFormat, text: string, options: End = {}) {
  const joined = joinToolDeltas(readPieces(format, [...text], options));
  return { text: joined.text, calls: joined.calls.map((call) => [call.name, call.arguments]) };
}

/** Neighbouring pieces of one kind joined. */
export function merge(deltas: readonly ToolDelta[]): ToolDelta[] {
  const merged: ToolDelta[] = [];
  for (const delta of deltas) {
    const last = merged.at(-1);
    if (delta.kind === "arguments" && last?.kind === "arguments" && last.index === delta.index) last.text += delta.text;
    else if (delta.kind === "text" && last?.kind === "text" && !("abandons" in delta) && !("abandons" in last))
      last.text += delta.text;
    else merged.push({ ...delta });
  }
  return merged;
}
