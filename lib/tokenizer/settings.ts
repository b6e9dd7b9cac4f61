import { invalidArgument, ShardspeedError } from "../base/errors.js";
import type { JsonObject } from "../base/objects.js";
import type { BatchEncoding, Encoding, Side, TokenizerCall, TokenizerCallOptions } from "./types.js";

type Call = (...args: never[]) => unknown;

class FunctionObject {
  constructor(call: (self: unknown, ...args: unknown[]) => unknown) {
    const callable = (...args: unknown[]): unknown => call(callable, ...args);
    // biome-ignore lint/correctness/noConstructorReturn: what the class is for.
    return Object.setPrototypeOf(callable, new.target.prototype);
  }
}
// A function has bind() and call().
Object.setPrototypeOf(FunctionObject.prototype, Function.prototype);

/**
 * Base of classes whose instances are functions too: Python's `__call__`. The constructor returns a function with the class's prototype;
 * fields of derived classes, private ones too, are made on what a base constructor returns.
 */
const Callable = FunctionObject as unknown as new <C extends Call>(call: (self: C, ...args: never[]) => unknown) => C;

/** Above this a model_max_length means "none": transformers writes int(1e30) for it. */
const noMaxLength = 1e20;

/** A token by its role, such as "bos_token"; without an id where the vocabulary lacks it. */
export interface NamedToken {
  token: string;
  id: number | undefined;
}

/** What a caller may set of a tokenizer, as in transformers, and that it can be called. */
export abstract class TokenizerSettings extends Callable<TokenizerCall> {
  /** By their names in tokenizer_config.json. */
  readonly #named: Map<string, NamedToken>;
  #paddingSide: Side;
  #truncationSide: Side;
  #modelMaxLength: number;

  constructor(config: JsonObject, specialTokens: ReadonlyMap<string, NamedToken>) {
    super((self, texts: string | readonly string[], options?: TokenizerCallOptions) =>
      (self as TokenizerSettings).encodeTexts(texts, options),
    );
    this.#named = new Map(specialTokens);
    this.#paddingSide = config.padding_side === "left" ? "left" : "right";
    this.#truncationSide = config.truncation_side === "left" ? "left" : "right";
    const { model_max_length: maxLength } = config;
    this.#modelMaxLength =
      Number.isInteger(maxLength) && (maxLength as number) > 0 && (maxLength as number) < noMaxLength
        ? (maxLength as number)
        : Number.POSITIVE_INFINITY;
  }

  protected abstract encodeTexts(
    texts: string | readonly string[],
    options?: TokenizerCallOptions,
  ): Encoding | BatchEncoding;
  abstract tokenToId(token: string): number | undefined;
  abstract idToToken(id: number): string | undefined;

  get bosToken(): string | undefined {
    return this.#named.get("bos_token")?.token;
  }
  set bosToken(token: string | undefined) {
    this.#setToken("bos_token", "bosToken", token);
  }
  get bosTokenId(): number | undefined {
    return this.#named.get("bos_token")?.id;
  }
  set bosTokenId(id: number | undefined) {
    this.#setTokenId("bos_token", "bosTokenId", id);
  }

  get eosToken(): string | undefined {
    return this.#named.get("eos_token")?.token;
  }
  set eosToken(token: string | undefined) {
    this.#setToken("eos_token", "eosToken", token);
  }
  get eosTokenId(): number | undefined {
    return this.#named.get("eos_token")?.id;
  }
  set eosTokenId(id: number | undefined) {
    this.#setTokenId("eos_token", "eosTokenId", id);
  }

  get padToken(): string | undefined {
    return this.#named.get("pad_token")?.token;
  }
  set padToken(token: string | undefined) {
    this.#setToken("pad_token", "padToken", token);
  }
  get padTokenId(): number | undefined {
    return this.#named.get("pad_token")?.id;
  }
  set padTokenId(id: number | undefined) {
    this.#setTokenId("pad_token", "padTokenId", id);
  }

  get unkToken(): string | undefined {
    return this.#named.get("unk_token")?.token;
  }
  set unkToken(token: string | undefined) {
    this.#setToken("unk_token", "unkToken", token);
  }
  get unkTokenId(): number | undefined {
    return this.#named.get("unk_token")?.id;
  }
  set unkTokenId(id: number | undefined) {
    this.#setTokenId("unk_token", "unkTokenId", id);
  }

  get paddingSide(): Side {
    return this.#paddingSide;
  }
  set paddingSide(side: Side) {
    this.#paddingSide = checkSide("paddingSide", side);
  }

  get truncationSide(): Side {
    return this.#truncationSide;
  }
  set truncationSide(side: Side) {
    this.#truncationSide = checkSide("truncationSide", side);
  }

  get modelMaxLength(): number {
    return this.#modelMaxLength;
  }
  set modelMaxLength(length: number) {
    if (length !== Number.POSITIVE_INFINITY && !(Number.isSafeInteger(length) && length > 0)) {
      throw invalidArgument("modelMaxLength", "an integer of at least 1, or Infinity", length);
    }
    this.#modelMaxLength = length;
  }

  /** The named tokens by their names in transformers, as chat templates read them. */
  protected namedTokens(): Record<string, string> {
    return Object.fromEntries([...this.#named].map(([name, { token }]) => [name, token]));
  }

  #setToken(name: string, property: string, token: string | null | undefined): void {
    if (token === undefined || token === null) {
      this.#named.delete(name);
      return;
    }
    if (typeof token !== "string") throw invalidArgument(property, "a token of the vocabulary", token);
    const id = this.tokenToId(token);
    if (id === undefined) throw unknownToken(property, JSON.stringify(token));
    this.#named.set(name, { token, id });
  }

  #setTokenId(name: string, property: string, id: number | null | undefined): void {
    if (id === undefined || id === null) {
      this.#named.delete(name);
      return;
    }
    if (!Number.isInteger(id)) throw invalidArgument(property, "the id of a token", id);
    const token = this.idToToken(id);
    if (token === undefined) throw unknownToken(property, String(id));
    this.#named.set(name, { token, id });
  }
}

function unknownToken(property: string, found: string): ShardspeedError {
  return new ShardspeedError(
    "ERR_TOKENIZER",
    `Cannot set ${property} to ${found}: the vocabulary has no such token. Set one that it has; an end token does for padding: ` +
      "tokenizer.padToken = tokenizer.eosToken.",
  );
}

export function checkSide(name: string, side: unknown): Side {
  if (side !== "left" && side !== "right") throw invalidArgument(name, '"left" or "right"', side);
  return side;
}
