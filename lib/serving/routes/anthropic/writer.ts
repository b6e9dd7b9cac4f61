import type { GenerationUsage } from "../../../engine/generation.js";
import { newId } from "../openai/objects.js";
import type { ToolDelta } from "../openai/tools/tool_stream.js";

/** An event of a stream: `type` is its name too. */
export interface MessageEvent {
  type: string;
  [field: string]: unknown;
}

type ContentBlock =
  | { type: "text"; text: string }
  | { type: "tool_use"; id: string; name: string; input: Record<string, unknown> };

/** How an answer ended. */
export interface MessageEnd {
  reason: "stop" | "length";
  /** The stop sequence that ended it. */
  stopSequence: string | null;
  usage: GenerationUsage;
}

/**
 * Writes a message while its text comes: the events of a stream, and the object that is the answer where none was asked for.
 */
export class MessageWriter {
  readonly #head: object;
  #events: MessageEvent[] = [];
  readonly #blocks: ContentBlock[] = [];
  /** The JSON text of the call that is open. */
  #arguments = "";
  /** Calls that are none after all, or were cut off: a stream cannot take them back, an answer leaves them out. */
  readonly #broken = new Set<ContentBlock>();
  readonly #calls = new Map<number, ContentBlock>();
  #isOpen = false;
  #hasBegun = false;

  constructor(model: string) {
    this.#head = { id: newId("msg_"), type: "message", role: "assistant", model };
  }

  /** The event that comes ahead of all others: the first time. */
  begin(usage: GenerationUsage): MessageEvent[] {
    if (this.#hasBegun) return [];
    this.#hasBegun = true;
    this.#emit("message_start", {
      message: { ...this.#head, content: [], stop_reason: null, stop_sequence: null, usage: toMessageUsage(usage) },
    });
    return this.#take();
  }

  push(deltas: readonly ToolDelta[]): MessageEvent[] {
    for (const delta of deltas) {
      if (delta.kind === "call") this.#openCall(delta);
      else if (delta.kind === "arguments") {
        this.#arguments += delta.text;
        this.#emitDelta({ type: "input_json_delta", partial_json: delta.text });
      } else this.#addText(delta);
    }
    return this.#take();
  }

  /** The answer is over. @returns The last events, and the message. */
  end({ reason, stopSequence, usage }: MessageEnd): { events: MessageEvent[]; message: object } {
    this.#close();
    const content = this.#blocks.filter((block) => !this.#broken.has(block));
    const ended = { stop_reason: this.#stopReason(reason, stopSequence, content), stop_sequence: stopSequence };
    this.#emit("message_delta", { delta: ended, usage: toMessageUsage(usage) });
    this.#emit("message_stop", {});
    return {
      events: this.#take(),
      message: { ...this.#head, content, ...ended, usage: toMessageUsage(usage) },
    };
  }

  #stopReason(reason: "stop" | "length", stopSequence: string | null, content: readonly ContentBlock[]): string {
    if (reason === "length") return "max_tokens";
    if (stopSequence !== null) return "stop_sequence";
    return content.some(({ type }) => type === "tool_use") ? "tool_use" : "end_turn";
  }

  #take(): MessageEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  #emit(type: string, fields: object): void {
    this.#events.push({ type, ...fields });
  }

  #emitDelta(delta: object): void {
    this.#emit("content_block_delta", { index: this.#blocks.length - 1, delta });
  }

  #open(block: ContentBlock): void {
    this.#close();
    this.#isOpen = true;
    this.#blocks.push(block);
    this.#emit("content_block_start", { index: this.#blocks.length - 1, content_block: { ...block } });
  }

  #openCall({ index, id, name }: Extract<ToolDelta, { kind: "call" }>): void {
    const block: ContentBlock = { type: "tool_use", id, name, input: {} };
    this.#open(block);
    this.#calls.set(index, block);
    this.#arguments = "";
  }

  #addText({ text, abandons }: Extract<ToolDelta, { kind: "text" }>): void {
    const abandoned = abandons === undefined ? undefined : this.#calls.get(abandons);
    if (abandoned !== undefined) this.#broken.add(abandoned);
    const last = this.#blocks.at(-1);
    const isInText = this.#isOpen && last?.type === "text";
    if (!isInText) this.#open({ type: "text", text: "" });
    const block = this.#blocks.at(-1) as Extract<ContentBlock, { type: "text" }>;
    block.text += text;
    this.#emitDelta({ type: "text_delta", text });
  }

  #close(): void {
    const block = this.#blocks.at(-1);
    if (!this.#isOpen || block === undefined) return;
    this.#isOpen = false;
    if (block.type === "tool_use" && !this.#broken.has(block)) this.#readInput(block);
    this.#emit("content_block_stop", { index: this.#blocks.length - 1 });
  }

  #readInput(block: Extract<ContentBlock, { type: "tool_use" }>): void {
    try {
      block.input = JSON.parse(this.#arguments === "" ? "{}" : this.#arguments);
    } catch {
      // Cut off by max_tokens.
      this.#broken.add(block);
    }
  }
}

/** Anthropic counts the prompt's tokens apart that came from a cache. */
function toMessageUsage({ promptTokens, newTokens, cachedTokens }: GenerationUsage): object {
  return {
    input_tokens: promptTokens - cachedTokens,
    output_tokens: newTokens,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: cachedTokens,
  };
}
