import type { GenerationUsage } from "../../../engine/generation.js";
import type { GenerateCall, GenerateChunk, GeneratePart, GenerateStart } from "../../worker/calls.js";
import { contextOverflow } from "./errors.js";
import type { Session } from "./session.js";

/** Receives what one sequence gives, in order. */
export interface SequenceReader {
  start(start: GenerateStart): void;
  chunk(chunk: GenerateChunk): void;
}

/**
 * Generates sequences at once. The first one that fails, or whose reader does, ends all others.
 *
 * @returns How many tokens each took, when none is left running.
 */
export async function generateAll(
  session: Session,
  calls: readonly GenerateCall[],
  readers: readonly SequenceReader[],
): Promise<GenerationUsage[]> {
  const { model, reservation, signal } = session;
  let cause: { error: unknown } | undefined;
  const fail = (error: unknown): void => {
    cause ??= { error };
    session.abort();
  };
  const run = async (call: GenerateCall, reader: SequenceReader): Promise<GenerationUsage> => {
    const onPart = (parts: GeneratePart[]): void => {
      if (cause !== undefined) return;
      try {
        for (const part of parts) readPart(reader, part);
      } catch (error) {
        // It must not reach the worker's side of the call.
        fail(error);
      }
    };
    const { usage } = await model.call("generate", call, { reservation, signal, onPart });
    return usage;
  };
  const usages = await Promise.all(
    calls.map((call, i) =>
      run(call, readers[i] as SequenceReader).catch((error: unknown) => {
        fail(error);
        return undefined;
      }),
    ),
  );
  if (cause !== undefined) throw cause.error;
  return usages as GenerationUsage[];
}

function readPart(reader: SequenceReader, part: GeneratePart): void {
  if ("start" in part) reader.start(part.start);
  else reader.chunk(part.chunk);
}

/** What ended a sequence, as vLLM tells it: the stop string or the stop token of the request; null for the model's own token. */
export function toStopReason(
  { finishReason, stopReason }: GenerateChunk,
  stopTokenIds: readonly number[],
): string | number | null {
  if (finishReason !== "stop" || stopReason === undefined) return null;
  return typeof stopReason === "string" || stopTokenIds.includes(stopReason) ? stopReason : null;
}

/**
 * For servers that refuse more new tokens than there is room for.
 *
 * @throws ApiError where the worker cut what the request asked for.
 */
export function checkRoom(
  { promptTokens, maxNewTokens }: GenerateStart,
  asked: number | null | undefined,
  promptField: string,
  { engine: { contextTokens } }: Session,
): void {
  if (asked === null || asked === undefined || asked <= maxNewTokens) return;
  throw contextOverflow(contextTokens, promptField, { prompt: promptTokens, completion: asked });
}
