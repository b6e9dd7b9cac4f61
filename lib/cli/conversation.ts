import { ShardspeedError } from "../base/errors.js";
import type { Engine } from "../engine/engine.js";
import type { GenerationChunk, GenerationUsage } from "../engine/generation.js";
import type { GenerationOptions } from "../engine/generation_options.js";
import { encodeConversation, renderConversation } from "../engine/prompts.js";
import type { ChatMessage, Tokenizer } from "../tokenizer/types.js";

/** An answer, why it ended, and what it took. */
export interface Turn {
  text: string;
  /** "cancelled": it was stopped, and what had been written by then counts as the answer. */
  finishReason: "stop" | "length" | "cancelled";
  usage: GenerationUsage;
  /** The answer ended because there was no more room in the context. */
  isFull: boolean;
}

/** Messages that were exchanged, and the model that answers. */
export class Conversation {
  readonly #engine: Engine;
  readonly #tokenizer: Tokenizer;
  readonly #options: GenerationOptions;
  readonly #template: { chatTemplate?: string };
  #system: string | undefined;
  #messages: ChatMessage[] = [];

  /**
   * @param options Without maxNewTokens an answer may take all of the context that is left.
   * @throws ShardspeedError ERR_TOKENIZER for a model that cannot chat.
   */
  constructor(
    engine: Engine,
    options: GenerationOptions,
    { system, ...template }: { system?: string | undefined; chatTemplate?: string },
  ) {
    if (!engine.tokenizer) {
      throw new ShardspeedError("ERR_TOKENIZER", "A chat needs a tokenizer, and the model folder has none.");
    }
    if (engine.tokenizer.chatTemplate === undefined && template.chatTemplate === undefined) {
      throw new ShardspeedError(
        "ERR_TOKENIZER",
        "The model has no chat template: it is not made for conversations. Give one with --chat-template, or use shardspeed generate.",
      );
    }
    this.#engine = engine;
    this.#tokenizer = engine.tokenizer;
    this.#options = options;
    this.#system = system;
    this.#template = template;
  }

  /** Forgets all messages; a system message stays. */
  reset(): void {
    this.#messages = [];
  }

  /** Of all that follows; undefined: none. */
  set system(text: string | undefined) {
    this.#system = text;
  }

  /**
   * Answers a message. A turn that fails, or is stopped before its first text, is forgotten.
   *
   * @param write Called with the text as it is made.
   * @throws ShardspeedError ERR_CONTEXT_LENGTH where the conversation leaves no room for an answer; what the template says against it.
   */
  async answer(content: string, write: (text: string) => Promise<void>, signal: AbortSignal): Promise<Turn> {
    const system = this.#system === undefined ? [] : [{ role: "system", content: this.#system }];
    const messages = [...this.#messages, { role: "user", content }];
    const prompt = renderConversation(this.#tokenizer, [...system, ...messages], this.#template);
    const ids = await encodeConversation(this.#tokenizer, prompt);
    const room = this.#engine.contextTokens - ids.length;
    if (room < 1) {
      throw new ShardspeedError(
        "ERR_CONTEXT_LENGTH",
        `The conversation has ${ids.length} tokens with this message, and the context ${this.#engine.contextTokens}: there is no room for an answer. ` +
          "/reset begins a new conversation.",
      );
    }
    const maxNewTokens = Math.min(this.#options.maxNewTokens ?? room, room);
    let text = "";
    let last: GenerationChunk | undefined;
    const usage = { promptTokens: ids.length, newTokens: 0, cachedTokens: 0 };
    try {
      for await (const chunk of this.#engine.stream(ids, { ...this.#options, maxNewTokens, signal })) {
        text += chunk.text;
        usage.newTokens += chunk.ids.length;
        usage.cachedTokens += chunk.cachedTokens ?? 0;
        last = chunk;
        await write(chunk.text);
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
    const finishReason = last?.finishReason ?? "cancelled";
    if (text !== "" || finishReason !== "cancelled")
      this.#messages = [...messages, { role: "assistant", content: text }];
    return { text, finishReason, usage, isFull: finishReason === "length" && usage.newTokens === room };
  }
}
