import type { FinishReason, GenerationUsage } from "../../engine/generation.js";
import type { GenerationOptions } from "../../engine/generation_options.js";
import type { GeneratedLogprob, LikelyToken, PromptLogprob } from "../../engine/logprobs.js";
import type { ModelInfo } from "../../engine/model_info.js";
import type { ChatMessage } from "../../tokenizer/types.js";

/** A conversation, which a worker renders with the model's chat template. */
export interface ChatPrompt {
  messages: readonly ChatMessage[];
  /** JSON schemas of functions, as OpenAI's `tools`. */
  tools?: readonly object[] | undefined;
  documents?: readonly object[] | undefined;
  /** End with the opening of the assistant's turn. Default true. */
  addGenerationPrompt?: boolean | undefined;
  /** End inside the last message. Default false. */
  continueFinalMessage?: boolean | undefined;
  /** Jinja source in place of the model's. */
  chatTemplate?: string | undefined;
  /** More variables for the template. */
  templateVariables?: Record<string, unknown> | undefined;
}

/** A prompt in one of its forms. */
export type PromptInput =
  /** addSpecialTokens: default true for text. A chat template writes special tokens itself: default false there. */
  | { text: string; addSpecialTokens?: boolean | undefined }
  | { ids: readonly number[] }
  | { chat: ChatPrompt; addSpecialTokens?: boolean | undefined };

/** Generate from one prompt. */
export interface GenerateCall {
  prompt: PromptInput;
  /** Options of Engine.stream(), or with numBeams of Engine.generate(); `maxNewTokens` above the room that is left is cut to it, and minNewTokens with it. */
  options: Omit<GenerationOptions, "signal">;
  /** Keep only so many tokens at the end of the prompt; -1: as many as the context has. */
  truncatePromptTokens?: number | undefined;
  /** Default true. The token that ends the sequence is never part of the text. */
  skipSpecialTokens?: boolean | undefined;
  /** The text ends with the stop string that ended it. Default false. */
  includeStopString?: boolean | undefined;
  /** The first part has the ids of the prompt. */
  wantsPromptIds?: boolean | undefined;
}

/** The first part of a generation, just before the first chunk: the prompt as the model gets it. */
export interface GenerateStart {
  promptTokens: number;
  /** Of these, found in the prefix cache; absent: none. */
  cachedTokens?: number | undefined;
  /** Where they were asked for. */
  promptIds?: number[] | undefined;
  /** The prompt's first one, where log-probabilities of the others were asked for. */
  firstToken?: Omit<LikelyToken, "logprob"> | undefined;
  /** What maxNewTokens became. */
  maxNewTokens: number;
}

/** A later part: the tokens since the last one, and their text. */
export interface GenerateChunk {
  /** Where the call asks for several samples: which one this is of. */
  index?: number;
  text: string;
  ids: number[];
  logprobs?: GeneratedLogprob[];
  /** Of the first chunk, where they were asked for. */
  promptLogprobs?: (PromptLogprob | null)[];
  finishReason?: FinishReason;
  stopReason?: string | number;
}

export type GeneratePart = { start: GenerateStart } | { chunk: GenerateChunk };

/** Tokens of a text or of a conversation. */
export interface TokenizeCall {
  prompt: Exclude<PromptInput, { ids: readonly number[] }>;
  /** Also the text of each token. */
  wantsStrings?: boolean | undefined;
}

/** Embed texts, as Engine.embed(). */
export interface EmbedCall {
  texts: readonly (string | readonly number[])[];
  normalize?: boolean | undefined;
  /** Keep only so many tokens of each text; -1: as many as the context has. Otherwise a longer one is an error. */
  truncatePromptTokens?: number | undefined;
}

/** Classify texts or pairs of texts, as Engine.classify(). */
export interface ClassifyCall {
  texts: readonly (string | { text: string; textPair: string })[];
}

/** What a worker's engine can be asked for: the argument of each call, the parts that come before its result, and the result. */
export interface EngineCalls {
  generate: { argument: GenerateCall; part: GeneratePart; result: { usage: GenerationUsage } };
  tokenize: { argument: TokenizeCall; part: never; result: { ids: number[]; strings?: string[] } };
  detokenize: { argument: { ids: readonly number[] }; part: never; result: { text: string } };
  render: { argument: { chat: ChatPrompt }; part: never; result: { text: string } };
  embed: {
    argument: EmbedCall;
    part: never;
    /** values: (texts, width), row by row. */
    result: { values: Float32Array; width: number; promptTokens: number };
  };
  classify: {
    argument: ClassifyCall;
    part: never;
    /** One for each text: scores and logits of the classes, in their order: names may come twice. */
    result: { results: { label: string; scores: number[]; logits: number[] }[]; promptTokens: number };
  };
}

export type EngineCallName = keyof EngineCalls;

/** What a worker's engine is: the first worker that is ready says so. */
export interface EngineDescription {
  info: ModelInfo;
  /** Maximum number of tokens of a sequence. */
  contextTokens: number;
  /** What it can be asked for, by the route's sense: chat needs a template. */
  tasks: ("generate" | "chat" | "embed" | "classify" | "score")[];
  /** Parameters in the checkpoint, and bytes of the weights over all ranks. */
  parameters: number;
  weightBytes: number;
  dtype: string;
  devices: string[];
  /** Jinja source of the default chat template, from which the format of tool calls is detected. */
  chatTemplate?: string | undefined;
  /** What generation_config.json sets of sampling, by the names of generation options; nothing that it does not say. */
  generationDefaults: Record<string, unknown>;
  /** For /tokenizer_info. */
  tokenizer?: {
    bosToken?: string | undefined;
    eosToken?: string | undefined;
    padToken?: string | undefined;
    unkToken?: string | undefined;
    bosTokenId?: number | undefined;
    eosTokenId?: number | undefined;
  };
}
