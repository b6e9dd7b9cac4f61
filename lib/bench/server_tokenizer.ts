import { isObject } from "../base/objects.js";
import type { Client } from "./client.js";

/** Turns text into token ids and back, by the routes of the server that is measured. */
export class ServerTokenizer {
  readonly #client: Client;
  readonly #model: string;
  readonly #signal: AbortSignal | undefined;

  constructor(client: Client, model: string, signal?: AbortSignal) {
    this.#client = client;
    this.#model = model;
    this.#signal = signal;
  }

  /** Whether the server has both routes. */
  async isThere(): Promise<boolean> {
    try {
      const ids = await this.encode("the");
      return ids !== undefined && (await this.decode(ids)) !== undefined;
    } catch {
      return false; // it closed the connection on a route that it does not know
    }
  }

  /** The ids of a text without special tokens; undefined where the server has no such route. */
  async encode(text: string): Promise<number[] | undefined> {
    // vLLM's form and llama.cpp's.
    const forms = { prompt: text, add_special_tokens: false, content: text, add_special: false };
    const body = await this.#post("/tokenize", forms);
    const tokens = body?.tokens;
    return Array.isArray(tokens) && tokens.length > 0 && tokens.every(Number.isSafeInteger) ? tokens : undefined;
  }

  /** The text of token ids; undefined where the server has no such route. */
  async decode(tokens: readonly number[]): Promise<string | undefined> {
    const body = await this.#post("/detokenize", { tokens });
    const text = body?.prompt ?? body?.content ?? body?.text;
    return typeof text === "string" ? text : undefined;
  }

  async #post(route: string, body: object): Promise<Record<string, unknown> | undefined> {
    const reply = await this.#client.call("POST", route, { model: this.#model, ...body }, this.#signal);
    return reply.status === 200 && isObject(reply.body) ? reply.body : undefined;
  }
}

/**
 * A text of as many tokens as `count`, as nearly as the tokenizer allows: text of ids that were drawn at random may have other ids.
 *
 * @param draw A random id.
 */
export async function textOfTokens(
  tokenizer: ServerTokenizer,
  count: number,
  draw: () => number,
): Promise<{ text: string; tokens: number } | undefined> {
  let ids = Array.from({ length: count }, draw);
  for (let attempt = 0; ; attempt++) {
    const text = await tokenizer.decode(ids);
    const again = text === undefined ? undefined : await tokenizer.encode(text);
    if (text === undefined || again === undefined) return undefined;
    if (again.length === count || attempt === 8) return { text, tokens: again.length };
    ids =
      again.length > count ? again.slice(0, count) : [...again, ...Array.from({ length: count - again.length }, draw)];
  }
}
