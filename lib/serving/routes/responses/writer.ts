import type { GenerationUsage } from "../../../engine/generation.js";
import type { ChatLogprob } from "../openai/logprobs.js";
import { newId, nowInSeconds } from "../openai/objects.js";
import type { ToolDelta } from "../openai/tools/tool_stream.js";

/** An event of a stream: `type` is its name too. */
export interface ResponseEvent {
  type: string;
  sequence_number: number;
  [field: string]: unknown;
}

type ItemStatus = "in_progress" | "completed" | "incomplete";

interface TextPart {
  type: "output_text";
  text: string;
  annotations: [];
  logprobs: ChatLogprob[];
}

interface MessageItem {
  type: "message";
  id: string;
  role: "assistant";
  status: ItemStatus;
  content: TextPart[];
}

interface CallItem {
  type: "function_call";
  id: string;
  call_id: string;
  name: string;
  arguments: string;
  status: ItemStatus;
}

type OutputItem = MessageItem | CallItem;

/** What a response has besides its output: the same in all of its events. */
export type ResponseHead = Readonly<Record<string, unknown>>;

/**
 * Writes a response while its text comes: the events of a stream, and the object that the stream ends with, which is the answer where none was
 * asked for.
 */
export class ResponseWriter {
  readonly #head: ResponseHead;
  #events: ResponseEvent[] = [];
  #nextNumber = 0;
  /** Items that are complete, and the one that is not, by their `output_index`. */
  readonly #output: OutputItem[] = [];
  /** Calls that were announced and are none: a stream cannot take them back, a response leaves them out. */
  readonly #abandoned = new Set<OutputItem>();
  readonly #calls = new Map<number, CallItem>();
  #open: OutputItem | undefined;
  /** Of tokens whose text has not left yet. */
  #logprobs: ChatLogprob[] = [];

  constructor(head: ResponseHead) {
    this.#head = head;
  }

  /** The events that come ahead of all others: the first time. */
  begin(): ResponseEvent[] {
    if (this.#nextNumber > 0) return [];
    const response = this.#describe("in_progress");
    this.#emit("response.created", { response });
    this.#emit("response.in_progress", { response });
    return this.#take();
  }

  /** Takes the next pieces, and the log-probabilities of their tokens if these were asked for. */
  push(deltas: readonly ToolDelta[], logprobs: readonly ChatLogprob[] = []): ResponseEvent[] {
    for (const one of logprobs) this.#logprobs.push(one);
    for (const delta of deltas) {
      if (delta.kind === "call") this.#openCall(delta);
      else if (delta.kind === "arguments") this.#addArguments(delta.text);
      else this.#addText(delta);
    }
    return this.#take();
  }

  /** The response is over. @returns The last events, and the response. */
  end(reason: "stop" | "length", usage: GenerationUsage): { events: ResponseEvent[]; response: object } {
    const isCut = reason === "length";
    // A response of no text has an empty one, which clients join.
    if (this.#output.every((item) => this.#abandoned.has(item))) this.#openMessage();
    this.#close(isCut ? "incomplete" : "completed");
    const response = {
      ...this.#describe(isCut ? "incomplete" : "completed"),
      ...(isCut ? { incomplete_details: { reason: "max_output_tokens" } } : {}),
      completed_at: isCut ? null : nowInSeconds(),
      usage: toResponseUsage(usage),
    };
    this.#emit(isCut ? "response.incomplete" : "response.completed", { response });
    return { events: this.#take(), response };
  }

  /** The response failed after it had begun. */
  fail({ code, message, param }: { code: string; message: string; param: string | null }): ResponseEvent[] {
    this.#events = this.begin();
    this.#emit("error", { code, message, param });
    if (this.#open !== undefined) this.#open.status = "incomplete";
    this.#open = undefined;
    const response = { ...this.#describe("failed"), error: { code: "server_error", message } };
    this.#emit("response.failed", { response });
    return this.#take();
  }

  #take(): ResponseEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  #emit(type: string, fields: object): void {
    this.#events.push({ type, sequence_number: this.#nextNumber++, ...fields });
  }

  #describe(status: string): object {
    return {
      ...this.#head,
      status,
      completed_at: null,
      error: null,
      incomplete_details: null,
      output: this.#output.filter((item) => !this.#abandoned.has(item)),
      usage: null,
    };
  }

  #add(item: OutputItem): void {
    this.#close("completed");
    this.#open = item;
    this.#output.push(item);
    this.#emit("response.output_item.added", { output_index: this.#output.length - 1, item: structuredClone(item) });
  }

  /** Where an event belongs. */
  get #place(): { item_id: string; output_index: number } {
    return { item_id: this.#open?.id ?? "", output_index: this.#output.length - 1 };
  }

  #openMessage(): TextPart {
    const message: MessageItem = {
      type: "message",
      id: newId("msg_"),
      role: "assistant",
      status: "in_progress",
      content: [],
    };
    this.#add(message);
    const part: TextPart = { type: "output_text", text: "", annotations: [], logprobs: [] };
    message.content.push(part);
    this.#emit("response.content_part.added", { ...this.#place, content_index: 0, part: structuredClone(part) });
    return part;
  }

  #addText({ text, abandons }: Extract<ToolDelta, { kind: "text" }>): void {
    const abandoned = abandons === undefined ? undefined : this.#calls.get(abandons);
    if (abandoned !== undefined) {
      this.#close("incomplete");
      this.#abandoned.add(abandoned);
    }
    const part = this.#open?.type === "message" ? (this.#open.content[0] as TextPart) : this.#openMessage();
    const logprobs = this.#takeLogprobs();
    part.text += text;
    for (const one of logprobs) part.logprobs.push(one);
    this.#emit("response.output_text.delta", { ...this.#place, content_index: 0, delta: text, logprobs });
  }

  #takeLogprobs(): ChatLogprob[] {
    const logprobs = this.#logprobs;
    this.#logprobs = [];
    return logprobs;
  }

  #openCall({ index, id, name }: Extract<ToolDelta, { kind: "call" }>): void {
    const call: CallItem = {
      type: "function_call",
      id: newId("fc_"),
      call_id: id,
      name,
      arguments: "",
      status: "in_progress",
    };
    this.#calls.set(index, call);
    this.#add(call);
  }

  #addArguments(text: string): void {
    if (this.#open?.type !== "function_call") return;
    this.#open.arguments += text;
    this.#emit("response.function_call_arguments.delta", { ...this.#place, delta: text });
  }

  #close(status: ItemStatus): void {
    const item = this.#open;
    if (item === undefined) return;
    item.status = status;
    if (item.type === "message") this.#closeText(item.content[0] as TextPart);
    else {
      const { name, arguments: text } = item;
      this.#emit("response.function_call_arguments.done", { ...this.#place, name, arguments: text });
    }
    const { output_index } = this.#place;
    this.#emit("response.output_item.done", { output_index, item });
    this.#open = undefined;
  }

  #closeText(part: TextPart): void {
    // Tokens without text of their own, such as the one that ends the sequence.
    for (const one of this.#takeLogprobs()) part.logprobs.push(one);
    const place = { ...this.#place, content_index: 0 };
    this.#emit("response.output_text.done", { ...place, text: part.text, logprobs: part.logprobs });
    this.#emit("response.content_part.done", { ...place, part });
  }
}

/** No thoughts are told apart. */
function toResponseUsage({ promptTokens, newTokens, cachedTokens }: GenerationUsage): object {
  return {
    input_tokens: promptTokens,
    input_tokens_details: { cached_tokens: cachedTokens, cache_write_tokens: 0 },
    output_tokens: newTokens,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: promptTokens + newTokens,
  };
}
