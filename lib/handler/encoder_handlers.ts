import path from "node:path";
import { httpStatuses, invalidArgument, ShardspeedError } from "../base/errors.js";
import { parseJson } from "../base/json.js";
import { isObject } from "../base/objects.js";
import type { Engine } from "../engine/engine.js";
import { initInference } from "../loading/init.js";
import type { Tokenizer } from "../tokenizer/index.js";
import { BaseDeepSpeedHandler } from "./base_deepspeed_handler.js";
import type { Context } from "./context.js";
import { deviceOption, type InitEngine } from "./ds_engine.js";
import type { HandlerRequest } from "./request.js";

/** What a request says: text, or the fields of JSON. */
type Input = string | Record<string, unknown>;
type Answer = { value: unknown } | { error: ShardspeedError };

/**
 * Base of the handlers of encoders, after TorchServe's Huggingface_Transformers example. Keys of `handler` in model-config.yaml: `model_path`
 * (relative to the archive; default: the archive itself) and `max_length` (longer texts are cut to this number of tokens; default: they are
 * refused). A request is text, or JSON; an invalid one gets status 400, and the others of its batch are answered.
 */
abstract class EncoderHandler extends BaseDeepSpeedHandler {
  /** The engine, once initialized. */
  engine: Engine | undefined;
  /** max_length of the yaml. */
  protected maxLength: number | undefined;
  readonly #init: InitEngine<Engine>;

  /** @param init Function that opens the engine. Default initInference(). */
  constructor(init: InitEngine<Engine> = initInference) {
    super();
    this.#init = init;
  }

  /** @throws ShardspeedError ERR_CONFIG for an invalid yaml, and the errors of initInference(). */
  override async initialize(ctx: Context): Promise<void> {
    await super.initialize(ctx);
    this.context = ctx;
    this.manifest = ctx.manifest;
    const yaml = ctx.modelYamlConfig;
    const section = isObject(yaml?.handler) ? yaml.handler : {};
    const { model_path: modelPath = ".", max_length: maxLength } = section;
    if (typeof modelPath !== "string" || modelPath === "") throw wrongKey("handler.model_path", "a path", modelPath);
    if (maxLength !== undefined && (!Number.isSafeInteger(maxLength) || (maxLength as number) < 1))
      throw wrongKey("handler.max_length", "an integer of at least 1", maxLength);
    this.maxLength = maxLength as number | undefined;
    const { logger, signal } = ctx;
    const folder = path.resolve(ctx.systemProperties.model_dir, modelPath);
    this.engine = await this.#init(folder, { ...deviceOption(yaml), logger, ...(signal ? { signal } : {}) });
    this.model = this.engine.module;
    this.initialized = true;
  }

  /** Disposes of the engine. */
  async dispose(): Promise<void> {
    await this.engine?.dispose();
  }

  /** What each request says, or why it says nothing. */
  override preprocess(requests: HandlerRequest[]): (Input | ShardspeedError)[] {
    return requests.map((row) => keep(() => readInput(row)));
  }

  /** The answer to each, or why there is none. */
  override async inference(inputs: (Input | ShardspeedError)[]): Promise<Answer[]> {
    return Promise.all(
      inputs.map(async (input) => {
        if (ShardspeedError.isInstance(input)) return { error: input };
        try {
          return { value: await this.answer(input) };
        } catch (error) {
          if (ShardspeedError.isInstance(error) && httpStatuses[error.code] === 400) return { error };
          throw error;
        }
      }),
    );
  }

  /** Answers as they are; of a wrong request status 400 and a message. */
  override postprocess(answers: Answer[]): unknown[] {
    return answers.map((answer, place) => {
      if ("value" in answer) return answer.value;
      this.context?.setResponseStatus(400, null, place);
      return { code: 400, type: "BadRequestException", message: answer.error.message };
    });
  }

  /** Answers one request. */
  protected abstract answer(input: Input): Promise<unknown>;

  /** The engine and its tokenizer. */
  protected get opened(): { engine: Engine; tokenizer: Tokenizer } {
    const { engine } = this;
    if (engine === undefined) throw new ShardspeedError("ERR_HANDLER", "The handler has not been initialised.");
    if (engine.tokenizer === undefined)
      throw new ShardspeedError("ERR_HANDLER", "The model folder has no tokenizer, which texts need.");
    return { engine, tokenizer: engine.tokenizer };
  }

  /** Tokens of a text, cut to max_length. */
  protected encode(text: string): number[] {
    const { tokenizer } = this.opened;
    const { maxLength } = this;
    return maxLength === undefined ? tokenizer.encode(text) : tokenizer(text, { truncation: true, maxLength }).inputIds;
  }
}

/** Answers with the name of a text's class: the example's `sequence_classification`. */
export class SequenceClassificationHandler extends EncoderHandler {
  /** Answers one request. */
  protected override async answer(input: Input): Promise<unknown> {
    const { engine } = this.opened;
    const { logits } = await engine.forward({ inputIds: [this.encode(textOf(input))] });
    return engine.module.info.labels[indexOfLargest(logits.data)];
  }
}

/** Answers with a pair of token and class for each token, special ones included: the example's `token_classification`. */
export class TokenClassificationHandler extends EncoderHandler {
  /** Answers one request. */
  protected override async answer(input: Input): Promise<unknown> {
    const { engine, tokenizer } = this.opened;
    const ids = this.encode(textOf(input));
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
    const { engine, tokenizer } = this.opened;
    const { question, context } = isObject(input)
      ? input
      : (parseJson(input, "The request", "ERR_INVALID_ARGUMENT") as Input & object);
    if (typeof question !== "string") throw invalidArgument("question", "a string", question);
    if (typeof context !== "string") throw invalidArgument("context", "a string", context);
    const { maxLength } = this;
    const pair = tokenizer.encodePair(question, context, maxLength === undefined ? {} : { maxLength });
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
    const { engine } = this.opened;
    const { embeddings } = await engine.embed(textOf(input), this.maxLength === undefined ? {} : { truncate: true });
    return [...embeddings.data];
  }
}

function wrongKey(key: string, expected: string, found: unknown): ShardspeedError {
  return new ShardspeedError(
    "ERR_CONFIG",
    `The model config yaml is wrong. ${invalidArgument(key, expected, found).message}`,
  );
}

function keep(read: () => Input): Input | ShardspeedError {
  try {
    return read();
  } catch (error) {
    if (ShardspeedError.isInstance(error)) return error;
    throw error;
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
