import { isObject } from "../../../base/objects.js";
import { showValue } from "../../../base/text.js";
import { type ApiError, invalidRequest } from "./errors.js";

export type BodyRoute = "completions" | "chat" | "embeddings";
/** Routes whose fields without effect are noted; the last two refuse by tables of their own. */
export type NotedRoute = BodyRoute | "responses" | "messages";

interface UnsupportedField {
  routes: readonly BodyRoute[];
  /** Values that ask for nothing, besides null. */
  isNeutral(value: unknown, body: Readonly<Record<string, unknown>>): boolean;
  /** What to do instead. */
  advice: string;
}

const generation = ["completions", "chat"] as const;
const never = () => false;
const isFalse = (value: unknown) => value === false;
const isEmpty = (value: unknown) =>
  isObject(value) ? Object.keys(value).length === 0 : Array.isArray(value) && value.length === 0;
const notYet = "It is not available yet.";
const useSchema = "Use response_format or structured_outputs.";

/**
 * Fields that change the answer and that nothing here follows. One that is set to more than a neutral value is refused: leaving it out in silence
 * would give another text than was asked for. A field that becomes available leaves this table for the route's schema.
 */
export const unsupportedFields: Readonly<Record<string, UnsupportedField>> = {
  // What the engine does not do yet
  best_of: {
    routes: ["completions"],
    isNeutral: (value, body) => value === (body.n ?? 1),
    advice: "Leave it out, or set it to n: the best of more choices are not looked for.",
  },
  guided_grammar: { routes: generation, isNeutral: never, advice: useSchema },
  regex: { routes: generation, isNeutral: never, advice: useSchema },
  ebnf: { routes: generation, isNeutral: never, advice: useSchema },
  json_schema: { routes: generation, isNeutral: never, advice: useSchema },
  grammar: { routes: generation, isNeutral: (value) => value === "", advice: useSchema },
  use_beam_search: {
    routes: generation,
    isNeutral: (value, body) => value === false || body.stream !== true,
    advice: "No text of a beam search is certain until it ends: leave stream out.",
  },
  // What this server is not for
  suffix: {
    routes: ["completions"],
    isNeutral: (value) => value === "",
    advice: "Text is not filled in before a suffix.",
  },
  echo: { routes: ["chat"], isNeutral: isFalse, advice: "A conversation is not echoed." },
  modalities: {
    routes: ["chat"],
    isNeutral: (value) => Array.isArray(value) && value.every((one) => one === "text"),
    advice: "Answers are text.",
  },
  audio: { routes: ["chat"], isNeutral: never, advice: "Answers are text." },
  prediction: { routes: ["chat"], isNeutral: never, advice: notYet },
  web_search_options: { routes: ["chat"], isNeutral: never, advice: "Models here search nothing." },
  functions: { routes: ["chat"], isNeutral: isEmpty, advice: "Use tools." },
  function_call: {
    routes: ["chat"],
    isNeutral: (value) => value === "none" || value === "auto",
    advice: "Use tool_choice.",
  },
  prompt_embeds: { routes: ["completions"], isNeutral: never, advice: "Prompts are texts or token ids." },
  custom_logit_processor: { routes: generation, isNeutral: never, advice: "Requests bring no programs." },
  lora_path: { routes: generation, isNeutral: never, advice: "The flag --adapter of the server merges one." },
  messages: { routes: ["embeddings"], isNeutral: never, advice: "Use input." },
  embed_dtype: { routes: ["embeddings"], isNeutral: (value) => value === "float32", advice: "Embeddings are float32." },
  endianness: {
    routes: ["embeddings"],
    isNeutral: (value) => value === "native" || value === "little",
    advice: "Embeddings are little-endian.",
  },
};

const unsupportedList = Object.entries(unsupportedFields);

/** @throws ApiError for the first field that asks for what is not there. */
export function refuseUnsupported(route: BodyRoute, body: Readonly<Record<string, unknown>>): void {
  for (const [name, { routes, isNeutral, advice }] of unsupportedList) {
    const value = body[name] ?? undefined;
    if (value === undefined || !routes.includes(route) || isNeutral(value, body)) continue;
    throw unsupported(name, `${name} ${showValue(value)} is not supported. ${advice}`);
  }
}

export function unsupported(param: string, message: string): ApiError {
  return invalidRequest("unsupported_parameter", message, param);
}

/** Known fields that never change the text of an answer. */
export const harmlessFields: Readonly<Record<NotedRoute, readonly string[]>> = {
  completions: [...harmlessIn("completions")],
  chat: [...harmlessIn("chat")],
  embeddings: ["user", "request_id"],
  responses: ["safety_identifier", "prompt_cache_key", "prompt_cache_retention", "stream_options", "client_metadata"],
  messages: [
    ...["metadata", "service_tier", "thinking", "container", "context_management", "betas"],
    ...["cache_control", "inference_geo", "speed"],
  ],
};

function harmlessIn(route: "completions" | "chat"): string[] {
  const both = [
    ...["user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"],
    ...["priority", "request_id", "spaces_between_special_tokens", "stream_interval"],
    ...["kv_transfer_params", "vllm_xargs", "mm_processor_kwargs", "session_id", "cache_prompt", "id_slot"],
    ...["timings_per_token", "return_progress", "rid", "guided_decoding_backend", "guided_whitespace_pattern"],
  ];
  return route === "chat" ? [...both, "verbosity", "separate_reasoning", "stream_reasoning"] : both;
}

/** Names of unknown fields that are remembered, so that each is logged once: clients make up what they like. */
const mostRemembered = 1000;
const longestRemembered = 100;

/** Says once of each name that a field has no effect. */
export class IgnoredFields {
  readonly #seen = new Set<string>();
  readonly #debug: (message: string) => void;
  readonly #count: (field: string) => void;

  /** @param count Receives known names only: it may label a metric with them. */
  constructor(debug: (message: string) => void, count: (field: string) => void) {
    this.#debug = debug;
    this.#count = count;
  }

  note(route: NotedRoute, body: Readonly<Record<string, unknown>>, known: Readonly<Record<string, unknown>>): void {
    for (const name of Object.keys(body)) {
      const value = body[name] ?? undefined;
      if (value === undefined || Object.hasOwn(known, name) || Object.hasOwn(unsupportedFields, name)) continue;
      if (harmlessFields[route].includes(name)) this.#count(name);
      if (name.length > longestRemembered || this.#seen.has(name) || this.#seen.size >= mostRemembered) continue;
      this.#seen.add(name);
      this.#debug(`The field ${showValue(name)} of requests to ${route} has no effect.`);
    }
  }
}
