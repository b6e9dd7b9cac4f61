import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { parseJson } from "../base/json.js";
import { isObject } from "../base/objects.js";
import type { Tokenizer } from "../tokenizer/index.js";
import { EngineHandler, keepIfOwn } from "./engine_handler.js";
import type { HandlerRequest } from "./request.js";

/** What a request says: text, or the fields of JSON. */
type Input = string | Record<string, unknown>;
/** A request of a batch, or why it cannot be one. */
type Prepared = { input: Input } | { error: unknown };
/** The answer to a request, or why there is none. */
type Answer = { value: unknown } | { error: unknown };

/**
 * Base of the handlers of encoders, after TorchServe's Huggingface_Transformers example. Keys of `handler` in model-config.yaml are those of
 * EngineHandler; texts longer than `max_length` tokens are cut, or refused where it says nothing. A request is text, or JSON; an invalid one gets
 * status 400, and the others of its batch are answered.
 */
abstract class EncoderHandler extends EngineHandler {
  /** What each request says, or why it says nothing. */
  override preprocess(requests: HandlerRequest[]): Prepared[] {
    return requests.map((row) => {
      try {
        return { input: readInput(row) };
      } catch (error) {
        return keepIfOwn(error);
      }
    });
  }

  /** The answer to each, or why there is none. */
  override async inference(requests: Prepared[]): Promise<Answer[]> {
    const answer = async (input: Input) => ({ value: await this.answer(input) });
    return Promise.all(
      requests.map((request) => ("error" in request ? request : answer(request.input).catch(keepIfOwn))),
    );
  }

  /** Answers as they are; of a wrong request its status and a message. */
  override postprocess(answers: Answer[]): unknown[] {
    return answers.map((answer, place) => ("error" in answer ? this.refuse(answer.error, place) : answer.value));
  }

  /** Answers one request. */
  protected abstract answer(input: Input): Promise<unknown>;

  /** The tokenizer of the engine. */
  protected get tokenizer(): Tokenizer {
    const { tokenizer } = this.opened;
    if (tokenizer === undefined)
      throw new ShardspeedError("ERR_HANDLER", "The model folder has no tokenizer, which texts need.");
    return tokenizer;
  }

  /** Tokens of a text, cut to max_length. */
  protected encode(text: string): Promise<number[]> {
    const { tokenizer, maxLength } = this;
    return tokenizer.encodeAsync(text, maxLength === undefined ? {} : { maxLength });
  }
}

/** Answers with the name of a text's class: the example's `sequence_classification`. */
export class SequenceClassificationHandler extends EncoderHandler {
  /** Answers one request. */
  protected override async answer(input: Input): Promise<unknown> {
    const { opened: engine } = this;
    const { logits } = await engine.forward({ inputIds: [await this.encode(textOf(input))] });
    return engine.module.info.labels[indexOfLargest(logits.data)];
  }
}

/** Answers with a pair of token and class for each token, special ones included: the example's `token_classification`. */
export class TokenClassificationHandler extends EncoderHandler {
  /** Answers one request. */
  protected override async answer(input: Input): Promise<unknown> {
    const { opened: engine, tokenizer } = this;
    const ids = await this.encode(textOf(input));
    const { data } = (await engine.forward({ inputIds: [ids] })).logits;
    const { labels } = engine.module.info;
    const classes = data.length / ids.length;
    return ids.map((id, at) => [
      tokenizer.idToToken(id) ?? "",
      labels[indexOfLargest(data.subarray(at * classes, (at + 1) * classes))],
    ]);
  }
}

/** Answers a question from a text, `{ question, context }`, with the part of it that the model names: the example's `question_answering`. */
export class QuestionAnsweringHandler extends EncoderHandler {
  /** Answers one request. */
  protected override async answer(input: Input): Promise<unknown> {
    const { opened: engine, tokenizer, maxLength } = this;
    const fields = isObject(input) ? input : parseJson(input as string, "The request", "ERR_INVALID_ARGUMENT");
    if (!isObject(fields)) throw invalidArgument("the request", "an object with question and context", fields);
    const { question, context } = fields;
    if (typeof question !== "string") throw invalidArgument("question", "a string", question);
    if (typeof context !== "string") throw invalidArgument("context", "a string", context);
    const pair = await tokenizer.encodePairAsync(question, context, maxLength === undefined ? {} : { maxLength });
    const tokenTypeIds = engine.module.info.tokenTypes > 1 ? { tokenTypeIds: [pair.tokenTypeIds] } : {};
    const { startLogits, endLogits } = await engine.forward({ inputIds: [pair.inputIds], ...tokenTypeIds });
    const [start, end] = [indexOfLargest(startLogits.data), indexOfLargest(endLogits.data)];
    return tokenizer.decode(pair.inputIds.slice(start, end + 1));
  }
}

/** Answers with the embedding of a text, as engine.embed() makes it from the model folder's settings. */
export class EmbeddingHandler extends EncoderHandler {
  /** Answers one request. */
  protected override async answer(input: Input): Promise<unknown> {
    const { opened: engine, maxLength } = this;
    const { embeddings } = await engine.embed(textOf(input), maxLength === undefined ? {} : { maxTokens: maxLength });
    return [...embeddings.data];
  }
}

/** `data`, else `body`; fields of a form where there is neither. */
function readInput(row: HandlerRequest): Input {
  const found = row.data ?? row.body ?? row;
  const value = found instanceof Uint8Array ? new TextDecoder("utf-8").decode(found) : found;
  if (typeof value === "string" || isObject(value)) return value as Input;
  throw invalidArgument("the request", "text or a JSON object", value);
}

function textOf(input: Input): string {
  const text = typeof input === "string" ? input : (input.text ?? input.inputs ?? input.data);
  if (typeof text !== "string" || text === "") throw invalidArgument("text", "a text", text);
  return text;
}

function indexOfLargest(values: Float32Array): number {
  return values.indexOf(values.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY));
}
