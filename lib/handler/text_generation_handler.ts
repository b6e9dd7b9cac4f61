import { stat } from "node:fs/promises";
import path from "node:path";
import { type ErrorCode, httpStatuses, invalidArgument, ShardspeedError } from "../base/errors.js";
import { settleLogger } from "../base/logger.js";
import { nearestKey } from "../base/nearest.js";
import type { Engine, Prompt } from "../engine/engine.js";
import type { GenerationResult } from "../engine/generation.js";
import { type GenerationOptions, resolveGenerationOptions } from "../engine/generation_options.js";
import { initInference } from "../loading/init.js";
import type { ChatMessage } from "../tokenizer/types.js";
import { BaseDeepSpeedHandler } from "./base_deepspeed_handler.js";
import type { Context } from "./context.js";
import { deviceOption, type InitEngine, openDsEngine } from "./ds_engine.js";
import { fromText } from "./generation_parameters.js";
import { sendIntermediatePredictResponse } from "./intermediate.js";
import type { HandlerRequest } from "./request.js";
import { isTextParameter, readParameters, readTextRequest, type TextRequest, textParameters } from "./text_request.js";

/** A request of a batch, or why it cannot be one. */
type Prepared = TextRequest | { error: unknown };

/** An output for a request, or why there is none. */
type Generated = { request: TextRequest; result: GenerationResult } | { text: string } | { error: unknown };

const ownKeys = ["type", "model_path", "model_name", "max_length", "manual_seed", "profile"];

/**
 * Serves a causal language model without any code: the handler of TorchServe's OPT-30B example
 * (examples/large_models/deepspeed/opt/custom_handler.py), for every model that the engine supports.
 *
 * Keys of `handler` in model-config.yaml: `model_path` (the model folder, relative to the archive; default: the archive if it holds a
 * config.json), `max_length` (prompts are truncated to this number of tokens; default: unlimited), `manual_seed` (seed for requests
 * without one), and as defaults of requests `max_new_tokens`, `temperature`, `top_k`, `top_p` and the other generation options, `stream`,
 * `details` and `return_full_text`. With a section `deepspeed`, getDsEngine() makes the engine.
 *
 * A request is text, JSON or a form, with `prompt` or `messages` and these parameters. The response is the new text; with `details: true` an object;
 * with `stream: true` it is sent in parts, if possible. An invalid request gets status 400; the other requests of the batch are answered.
 */
export class TextGenerationHandler extends BaseDeepSpeedHandler {
  /** Loaded by initialize(). */
  engine: Engine | undefined;
  #defaults: readonly (readonly [string, unknown])[] = [];
  #seed: GenerationOptions["seed"];
  #maxLength: number | undefined;
  readonly #init: InitEngine<Engine>;

  /** @param init Function that opens the engine. Default initInference(). */
  constructor(init: InitEngine<Engine> = initInference) {
    super();
    this.#init = init;
  }

  /** @throws ShardspeedError ERR_CONFIG for an invalid yaml, and the errors of getDsEngine() and initInference(). */
  override async initialize(ctx: Context): Promise<void> {
    await super.initialize(ctx);
    this.context = ctx;
    this.manifest = ctx.manifest;
    const section = readSection(ctx);
    this.#readSettings(ctx, section);
    this.engine = await this.#openEngine(ctx, section);
    this.model = this.engine.module;
    this.initialized = true;
  }

  /** Disposes of the engine. */
  async dispose(): Promise<void> {
    await this.engine?.dispose();
  }

  override preprocess(requests: HandlerRequest[]): Promise<Prepared[]> {
    const prepare = async (row: HandlerRequest): Promise<Prepared> => {
      try {
        const { prompt, ...own } = readTextRequest(row, this.#defaults);
        return { prompt: await this.#cut(prompt), ...own };
      } catch (error) {
        return keepIfOwn(error);
      }
    };
    return Promise.all(requests.map(prepare));
  }

  override async inference(requests: Prepared[]): Promise<Generated[]> {
    const together = new AbortController();
    const answer = async (request: Prepared, place: number) =>
      "error" in request ? request : this.#answer(request, place, together.signal).catch(keepIfOwn);
    try {
      return await Promise.all(requests.map(answer));
    } catch (error) {
      together.abort(); // nobody would get the others' results
      throw error;
    }
  }

  override postprocess(outputs: Generated[]): unknown[] {
    return outputs.map((output, i) => {
      if ("error" in output) return this.#refuse(output.error, i);
      const answer = "text" in output ? output.text : shape(output.request, output.result);
      const type = typeof answer === "string" ? "text/plain; charset=utf-8" : "application/json";
      this.context?.requestProcessor[i]?.addResponseProperty("content-type", type);
      return answer;
    });
  }

  #readSettings(ctx: Context, section: Record<string, unknown>): void {
    const entries = Object.entries(section);
    for (const [name] of entries) {
      if (ownKeys.includes(name) || isTextParameter(name)) continue;
      const near = nearestKey(name, [...ownKeys, ...textParameters]);
      settleLogger(ctx.logger).warn(
        `The model config yaml has an unknown key handler.${name}.${near ? ` Did you mean ${near}?` : ""}`,
      );
    }
    this.#defaults = entries.filter(([name]) => isTextParameter(name));
    try {
      this.#seed = fromText(section.manual_seed ?? undefined, "integer") as GenerationOptions["seed"];
      resolveGenerationOptions({ ...readParameters(this.#defaults).options });
      resolveGenerationOptions(this.#seed === undefined ? {} : { seed: this.#seed });
      this.#maxLength = readMaxLength(section.max_length);
    } catch (error) {
      if (!ShardspeedError.isInstance(error)) throw error;
      throw new ShardspeedError("ERR_CONFIG", `The model config yaml, handler: ${error.message}`, { cause: error });
    }
  }

  async #openEngine(ctx: Context, section: Record<string, unknown>): Promise<Engine> {
    const { model_dir: modelDir } = ctx.systemProperties;
    const modelPath = section.model_path ?? (await ownFolder(modelDir));
    if (typeof modelPath !== "string" || modelPath === "") {
      throw new ShardspeedError(
        "ERR_CONFIG",
        "The model config yaml has no handler.model_path, expected the path of a model folder, and the archive holds no model itself.",
      );
    }
    const folder = path.resolve(modelDir, modelPath);
    const { modelName, systemProperties, modelYamlConfig: yaml, logger, signal } = ctx;
    if (yaml === null || !Object.hasOwn(yaml, "deepspeed")) {
      return this.#init(folder, { ...deviceOption(yaml), logger, ...(signal ? { signal } : {}) });
    }
    const modelYamlConfig = { ...yaml, handler: { ...section, model_path: modelPath } };
    return openDsEngine(folder, { modelName, systemProperties, logger, signal, modelYamlConfig }, this.#init);
  }

  /** A prompt of no more than max_length tokens. */
  async #cut(given: TextRequest["prompt"]): Promise<TextRequest["prompt"]> {
    const most = this.#maxLength;
    const prompt = isConversation(given) ? this.#applyTemplate(given) : given;
    if (most === undefined) return prompt;
    if (typeof prompt !== "string") return prompt.slice(0, most);
    const tokenizer = this.engine?.tokenizer;
    // No token has as many characters: the rest need not be looked at.
    return tokenizer === undefined ? prompt : (await tokenizer.encodeAsync(prompt.slice(0, most * 512))).slice(0, most);
  }

  #applyTemplate(messages: readonly ChatMessage[]): string | readonly number[] {
    const tokenizer = this.engine?.tokenizer;
    if (tokenizer === undefined)
      throw new ShardspeedError("ERR_TOKENIZER", "messages need a tokenizer, and the model folder has none.");
    return tokenizer.applyChatTemplate([...messages], { addGenerationPrompt: true });
  }

  async #answer(request: TextRequest, place: number, together: AbortSignal): Promise<Generated> {
    const { engine, context } = this;
    if (engine === undefined) throw new ShardspeedError("ERR_HANDLER", "The handler has not been initialised.");
    const own = context?.requestSignals[place];
    const options: GenerationOptions = {
      ...(this.#seed === undefined ? {} : { seed: this.#seed }),
      ...request.options,
      signal: own === undefined ? together : AbortSignal.any([own, together]),
    };
    const prompt = request.prompt as Prompt;
    if (request.stream && context?.onIntermediateResponse && context.requestIds[place] !== undefined) {
      return { text: await stream(engine, prompt, options, context, place) };
    }
    return { request, result: await engine.generate(prompt, options) };
  }

  #refuse(error: unknown, place: number): unknown {
    const { code, message } = error as ShardspeedError;
    const status = httpStatuses[code];
    this.context?.setResponseStatus(status, null, place);
    this.context?.requestProcessor[place]?.addResponseProperty("content-type", "application/json");
    return { code: status, type: status === 400 ? "BadRequestException" : "InternalServerException", message };
  }
}

function isConversation(prompt: TextRequest["prompt"]): prompt is readonly ChatMessage[] {
  return typeof prompt !== "string" && typeof prompt[0] === "object";
}

function readSection({ modelYamlConfig: yaml }: Context): Record<string, unknown> {
  const section = yaml?.handler ?? {};
  if (typeof section === "string") return {}; // the handler's name alone
  if (typeof section === "object" && !Array.isArray(section)) return section;
  const { message } = invalidArgument("handler", "a map", section);
  throw new ShardspeedError("ERR_CONFIG", `The model config yaml is wrong. ${message}`);
}

function readMaxLength(given: unknown): number | undefined {
  const value = fromText(given ?? undefined, "integer");
  if (value === undefined) return undefined;
  if (!Number.isSafeInteger(value) || (value as number) < 1)
    throw invalidArgument("max_length", "an integer of at least 1", value);
  return value as number;
}

async function ownFolder(modelDir: string): Promise<string | undefined> {
  return stat(path.join(modelDir, "config.json")).then(
    () => modelDir,
    () => undefined,
  );
}

/** What ends one request only. Anything else is the whole batch's. */
const ownCodes: readonly ErrorCode[] = [
  "ERR_INVALID_ARGUMENT",
  "ERR_CONTEXT_LENGTH",
  "ERR_TOKENIZER",
  "ERR_ABORTED",
  "ERR_NUMERIC",
  "ERR_OUT_OF_MEMORY",
];

function keepIfOwn(error: unknown): { error: unknown } {
  if (ShardspeedError.isInstance(error) && ownCodes.includes(error.code)) return { error };
  throw error;
}

/** Sends the text as it is made, and returns its end. */
async function stream(
  engine: Engine,
  prompt: Prompt,
  options: GenerationOptions,
  context: Context,
  place: number,
): Promise<string> {
  let last = "";
  for await (const chunk of engine.stream(prompt, options)) {
    if (chunk.finishReason) {
      last = chunk.text;
    } else if (chunk.text !== "") {
      const parts: string[] = [];
      parts[place] = chunk.text;
      sendIntermediatePredictResponse(
        parts,
        { [place]: context.requestIds[place] as string },
        "Intermediate",
        200,
        context,
      );
    }
  }
  return last;
}

function shape({ prompt, details, returnFullText }: TextRequest, result: GenerationResult): unknown {
  const text = returnFullText && typeof prompt === "string" ? prompt + result.text : result.text;
  if (!details) return text;
  const { promptTokens: prompt_tokens, newTokens: new_tokens } = result.usage;
  return { text, ids: result.ids, finish_reason: result.finishReason, usage: { prompt_tokens, new_tokens } };
}
