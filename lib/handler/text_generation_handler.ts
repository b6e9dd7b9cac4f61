import { ShardspeedError } from "../base/errors.js";
import type { Engine } from "../engine/engine.js";
import type { GenerationResult } from "../engine/generation.js";
import { type GenerationOptions, resolveGenerationOptions } from "../engine/generation_options.js";
import { encodeConversation, type Prompt, renderConversation } from "../engine/prompts.js";
import type { ChatMessage } from "../tokenizer/types.js";
import type { Context } from "./context.js";
import { EngineHandler, keepIfOwn } from "./engine_handler.js";
import { fromText } from "./generation_parameters.js";
import { sendIntermediatePredictResponse } from "./intermediate.js";
import type { HandlerRequest } from "./request.js";
import { isTextParameter, readParameters, readTextRequest, type TextRequest, textParameters } from "./text_request.js";

/** A request of a batch, or why it cannot be one. */
type Prepared = TextRequest | { error: unknown };

/** An output for a request, or why there is none. */
type Generated = { request: TextRequest; result: GenerationResult } | { text: string } | { error: unknown };

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
export class TextGenerationHandler extends EngineHandler {
  #defaults: readonly (readonly [string, unknown])[] = [];
  #seed: GenerationOptions["seed"];

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
      if ("error" in output) return this.refuse(output.error, i);
      const answer = "text" in output ? output.text : shape(output.request, output.result);
      const type = typeof answer === "string" ? "text/plain; charset=utf-8" : "application/json";
      this.context?.requestProcessor[i]?.addResponseProperty("content-type", type);
      return answer;
    });
  }

  protected override settings(): readonly string[] {
    return ["manual_seed", ...textParameters];
  }

  protected override isSetting(name: string): boolean {
    return super.isSetting(name) || isTextParameter(name);
  }

  protected override readSettings(section: Record<string, unknown>): void {
    this.#defaults = Object.entries(section).filter(([name]) => isTextParameter(name));
    this.#seed = fromText(section.manual_seed ?? undefined, "integer") as GenerationOptions["seed"];
    resolveGenerationOptions({ ...readParameters(this.#defaults).options });
    resolveGenerationOptions(this.#seed === undefined ? {} : { seed: this.#seed });
  }

  /** A prompt of no more than max_length tokens. */
  async #cut(given: TextRequest["prompt"]): Promise<TextRequest["prompt"]> {
    const most = this.maxLength;
    const prompt = isConversation(given) ? await this.#applyTemplate(given) : given;
    if (most === undefined) return prompt;
    if (typeof prompt !== "string") return prompt.slice(0, most);
    const tokenizer = this.engine?.tokenizer;
    // No token has as many characters: the rest need not be looked at.
    return tokenizer === undefined ? prompt : (await tokenizer.encodeAsync(prompt.slice(0, most * 512))).slice(0, most);
  }

  async #applyTemplate(messages: readonly ChatMessage[]): Promise<readonly number[]> {
    const tokenizer = this.engine?.tokenizer;
    if (tokenizer === undefined)
      throw new ShardspeedError("ERR_TOKENIZER", "messages need a tokenizer, and the model folder has none.");
    return encodeConversation(tokenizer, renderConversation(tokenizer, messages));
  }

  async #answer(request: TextRequest, place: number, together: AbortSignal): Promise<Generated> {
    const { opened: engine, context } = this;
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
}

function isConversation(prompt: TextRequest["prompt"]): prompt is readonly ChatMessage[] {
  return typeof prompt !== "string" && typeof prompt[0] === "object";
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
