import type { ToolFormat } from "./tools/format.js";

/** What the OpenAI routes can be told. */
export interface OpenAiSettings {
  /** Names by which requests know a model, in place of its own: by the model's name. The first one is the main one. */
  servedNames: Readonly<Record<string, readonly string[]>>;
  /** With one model: any name in a request means it. */
  anyModelName: boolean;
  /** "auto": what a request leaves out is as the model's generation_config.json says. "none": as OpenAI's defaults say. */
  generationConfig: "auto" | "none";
  /** Replaces values of generation_config.json, by its keys. */
  overrideGenerationConfig: Readonly<Record<string, unknown>>;
  /** Jinja source that renders conversations in place of the model's own template. */
  chatTemplate: string | undefined;
  /** Whether a request may bring a template of its own, which is a program. */
  trustRequestChatTemplate: boolean;
  /** Variables for templates, which chat_template_kwargs of a request replace one by one. */
  defaultChatTemplateKwargs: Readonly<Record<string, unknown>>;
  /** How the model writes tool calls. "auto": as its template shows. "none": calls stay text. */
  toolCallParser: "auto" | "none" | ToolFormat;
  /** Most log-probabilities a token that a request may ask for, up to 20. */
  maxLogprobs: number;
  /** Most stop strings of a request. */
  maxStopStrings: number;
  /** Most prompts of a request for completions. */
  maxPrompts: number;
  /** Most texts of a request for embeddings, classes or scores. */
  maxInputs: number;
  /** Refuse more max_tokens than the context has room for, in place of stopping there. */
  strictMaxTokens: boolean;
  /** Tokens of log-probabilities are `token_id:123` unless a request says otherwise. */
  returnTokensAsTokenIds: boolean;
  /** Status where the queue is full. */
  queueFullStatus: 503 | 429;
  /** Milliseconds of silence after which a stream gets a comment; 0: never. */
  ssePingIntervalMs: number;
  /** A client that leaves more bytes of its stream unread is dropped. */
  maxWaitingBytes: number;
  /** Largest body of a request. */
  bodyLimitBytes: number;
  /** Whether GET /tokenizer_info is there. */
  tokenizerInfo: boolean;
  /** Whether GET /openapi.json is there. */
  openApiDocument: boolean;
}

export const defaultOpenAiSettings: OpenAiSettings = {
  servedNames: {},
  anyModelName: false,
  generationConfig: "auto",
  overrideGenerationConfig: {},
  chatTemplate: undefined,
  trustRequestChatTemplate: false,
  defaultChatTemplateKwargs: {},
  toolCallParser: "auto",
  maxLogprobs: 20,
  maxStopStrings: 4,
  maxPrompts: 1024,
  maxInputs: 2048,
  strictMaxTokens: false,
  returnTokensAsTokenIds: false,
  queueFullStatus: 503,
  ssePingIntervalMs: 15_000,
  maxWaitingBytes: 4 * 2 ** 20,
  bodyLimitBytes: 32 * 2 ** 20,
  tokenizerInfo: true,
  openApiDocument: true,
};
