import { finished } from "node:stream";
import type { FastifyReply } from "fastify";
import { EventStream, toEvent } from "../../http/sse.js";
import { type ApiError, type ErrorContext, invalidRequest, toApiError } from "./errors.js";
import { type AnswerHead, type LastFields, type Usage, withHead } from "./objects.js";
import type { OpenAiContext } from "./session.js";

/** The part of a request that says how it wants its stream. */
export interface StreamBody {
  stream?: boolean | null | undefined;
  stream_options?:
    | { include_usage?: boolean | null | undefined; continuous_usage_stats?: boolean | null | undefined }
    | null
    | undefined;
}

/** @throws ApiError for options of a stream that is not wanted. */
export function checkStreamOptions({ stream, stream_options }: StreamBody): void {
  if (stream || stream_options === null || stream_options === undefined) return;
  throw invalidRequest("invalid_value", "stream_options needs stream to be true.", "stream_options");
}

/** The usage of a chunk before the last one: null where the last one has it, and absent where none does. */
export function usageOfChunk({ stream_options }: StreamBody, soFar: () => Usage): { usage?: Usage | null } {
  if (!stream_options?.include_usage) return {};
  return { usage: stream_options.continuous_usage_stats ? soFar() : null };
}

/** Sends the chunk behind the last choice, where the request wants what it has. */
export function sendLast(
  send: (chunk: object) => void,
  head: AnswerHead,
  { stream_options }: StreamBody,
  { usage, timings }: LastFields,
): void {
  const wantsUsage = stream_options?.include_usage === true;
  if (!wantsUsage && timings === undefined) return;
  send(
    withHead(head, { choices: [], ...(wantsUsage ? { usage } : {}), ...(timings === undefined ? {} : { timings }) }),
  );
}

/** How a stream tells that it failed, and that it is complete. */
export interface StreamForm {
  toFailure(failure: ApiError): string;
  /** What ends a stream, also one that failed. */
  end: string;
}

const chunkForm: StreamForm = { toFailure: ({ body }) => toEvent(body), end: "data: [DONE]\n\n" };

/** Answers with a stream of chunks. */
export function streamChunks(
  context: OpenAiContext,
  reply: FastifyReply,
  errors: ErrorContext,
  work: (send: (chunk: object) => void) => Promise<void>,
): Promise<void> {
  return streamEvents(context, reply, errors, chunkForm, (send) => work((chunk) => send(toEvent(chunk))));
}

/**
 * Answers with a stream of events. What fails before the first byte is thrown, and answered with its own status; later it is an error event. A
 * stream never ends as if it were complete: clients would take it for that.
 */
export async function streamEvents(
  context: OpenAiContext,
  reply: FastifyReply,
  errors: ErrorContext,
  { toFailure, end }: StreamForm,
  work: (send: (events: string) => void) => Promise<void>,
): Promise<void> {
  const { ssePingIntervalMs, maxWaitingBytes } = context.settings;
  const stream = new EventStream(reply, { pingIntervalMs: ssePingIntervalMs, mostWaitingBytes: maxWaitingBytes });
  try {
    await work((events) => stream.send(events));
    stream.end(end);
  } catch (error) {
    if (!stream.begun) {
      stream.abandon();
      throw error;
    }
    const failure = toApiError(error, errors);
    if (failure.status >= 500) context.logger.error(`A stream failed: ${String(error)}`);
    stream.end(toFailure(failure) + end);
  }
}

/** Resolves when the client has the whole response, or has gone. */
export function whenSent(reply: FastifyReply): Promise<void> {
  return new Promise((resolve) => {
    finished(reply.raw, () => resolve());
  });
}
