import { bytes, choice, integer, json, list, pattern, text, words, yesOrNo } from "./kinds.js";
import { optional, setting } from "./row.js";
import { speculation } from "./speculation_kind.js";

const dtypes = {
  auto: undefined,
  fp32: "fp32",
  float32: "fp32",
  float: "fp32",
  fp16: "fp16",
  float16: "fp16",
  half: "fp16",
  bf16: "bf16",
  bfloat16: "bf16",
} as const;

const ofModel = "as the model's own configuration says";

/** How engines run: for models whose own configuration says nothing else. */
export const engineRows = {
  tpSize: optional(integer({ minimum: 1, maximum: 1024 }), {
    group: "engine",
    flags: ["tp-size", "tensor-parallel-size"],
    help: "number of ranks that a model is divided among",
    unsetText: ofModel,
  }),
  dtype: optional(words<"fp32" | "fp16" | "bf16" | undefined>(dtypes, ["auto", "fp32", "fp16", "bf16"]), {
    group: "engine",
    flags: ["dtype"],
    help: "element type to compute in",
    unsetText: ofModel,
  }),
  communicationDtype: optional(words<"fp32" | "fp16" | "bf16" | undefined>(dtypes, ["fp32", "fp16", "bf16"]), {
    group: "engine",
    flags: ["communication-dtype"],
    help: "element type of what ranks on GPUs add up; fp16 and bf16 are less to send, and round each part",
    unsetText: "fp32",
  }),
  adapter: optional(text("folder", "a folder"), {
    group: "engine",
    flags: ["adapter"],
    help: "PEFT adapter (LoRA) to merge into the weights of every model that is served",
    unsetText: "none",
  }),
  device: setting(pattern("device", "`auto`, `cpu`, `cuda` or `cuda:N`", /^(auto|cpu|cuda(:\d{1,3})?)$/), "auto", {
    group: "engine",
    flags: ["device"],
    help: "where to compute",
  }),
  threads: optional(integer({ minimum: 1, maximum: 1024 }), {
    group: "engine",
    flags: ["threads"],
    help: "CPU threads of each rank",
    unsetText: "all processors, divided among workers and ranks",
  }),
  maxModelLen: optional(integer({ minimum: 1, maximum: 2 ** 31 - 1 }), {
    group: "engine",
    flags: ["max-model-len"],
    help: "maximum number of tokens of a prompt and its answer",
    unsetText: "the model's context",
  }),
  maxNumSeqs: optional(integer({ minimum: 1, maximum: 65_536 }), {
    group: "engine",
    flags: ["max-num-seqs"],
    help: "maximum number of sequences that run at the same time",
    unsetText: "as many as the KV cache holds",
  }),
  maxNumBatchedTokens: optional(integer({ minimum: 1, maximum: 2 ** 20 }), {
    group: "engine",
    flags: ["max-num-batched-tokens"],
    help: "maximum number of tokens in a step",
    unsetText: "512",
  }),
  kvCacheBytes: optional(bytes({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }), {
    group: "engine",
    flags: ["kv-cache-bytes"],
    help: "memory for keys and values of each worker",
    unsetText: "planned from the model and the free memory",
  }),
  noPrefixCache: setting(yesOrNo, false, {
    group: "engine",
    flags: ["no-prefix-cache", "no-prefix-caching", "no-enable-prefix-caching"],
    help: "compute each prompt from its beginning, also where others began alike; it changes no token",
  }),
  speculation: optional(speculation, {
    group: "engine",
    flags: ["speculative-config"],
    help: "draft tokens, and verify several in one step; it changes no token",
    unsetText: "one token a step",
  }),
} as const;

/** Who may ask for what. */
export const securityRows = {
  apiKeyFile: optional(text("file", "a file"), {
    group: "security",
    flags: ["api-key-file"],
    help: "file with API keys",
  }),
  apiKey: optional(text("key", "a key"), {
    group: "security",
    help: "an API key for everything",
    isSecret: true,
  }),
  disableTokenAuthorization: setting(yesOrNo, false, {
    group: "security",
    flags: ["disable-token-auth", "disable-token"],
    key: "disable_token_authorization",
    help: "ask for no key, also where there are keys",
  }),
  publicMetrics: setting(yesOrNo, false, {
    group: "security",
    flags: ["public-metrics"],
    help: "/metrics asks for no key",
  }),
  enableModelApi: setting(yesOrNo, false, {
    group: "security",
    flags: ["enable-model-api"],
    key: "enable_model_api",
    help: "models may be registered and unregistered by requests",
  }),
  allowedOrigins: setting(list("origin", "origins such as `https://chat.example.org`, or `*`"), [], {
    group: "security",
    flags: ["allowed-origins"],
    key: "cors_allowed_origin",
    help: "origins whose pages may send requests",
    unsetText: "only the server's own",
  }),
  allowedMethods: setting(list("method", "HTTP methods"), [], {
    group: "security",
    flags: ["allowed-methods"],
    key: "cors_allowed_methods",
    help: "methods that these pages may use",
    unsetText: "all that the server knows",
  }),
  allowedHeaders: setting(list("header", "names of headers"), [], {
    group: "security",
    flags: ["allowed-headers"],
    key: "cors_allowed_headers",
    help: "headers that these pages may send",
    unsetText: "all",
  }),
  allowedHosts: setting(list("host", "host names"), [], {
    group: "security",
    flags: ["allowed-hosts"],
    help: "host names in requests to a listener of this machine alone that asks for no key",
    unsetText: "localhost and addresses",
  }),
} as const;

/** How text is made of requests, and of answers. */
export const openAiRows = {
  chatTemplate: optional(text("file", "a file"), {
    group: "openai",
    flags: ["chat-template"],
    help: "Jinja template in place of the model's own",
    unsetText: "the model's own",
  }),
  trustRequestChatTemplate: setting(yesOrNo, false, {
    group: "openai",
    flags: ["trust-request-chat-template"],
    help: "requests may bring a chat template of their own",
  }),
  toolCallParser: setting(pattern("name", "`auto`, `none` or the name of a format", /^[a-z][a-z0-9_]{0,63}$/), "auto", {
    group: "openai",
    flags: ["tool-call-parser"],
    help: "format in which the model writes calls of tools; auto: detected from its chat template",
  }),
  generationConfig: setting(choice(["auto", "none"]), "auto", {
    group: "openai",
    flags: ["generation-config"],
    help: "take sampling parameters that a request leaves out from the model's generation_config.json",
  }),
  overrideGenerationConfig: setting(
    json("json"),
    {},
    {
      group: "openai",
      flags: ["override-generation-config"],
      help: 'values in place of those of generation_config.json: {"temperature": 0.5}',
      unsetText: "none",
    },
  ),
  anyModelName: setting(yesOrNo, false, {
    group: "openai",
    flags: ["any-model-name"],
    help: "a request may name any model, if only one is served",
  }),
  strictMaxTokens: setting(yesOrNo, false, {
    group: "openai",
    flags: ["strict-max-tokens"],
    help: "refuse requests for more tokens than the context has room for, in place of cutting their number",
  }),
} as const;

/** What is written about requests. */
export const logRows = {
  logLevel: setting(choice(["debug", "info", "warn", "error", "silent"]), "info", {
    group: "logs",
    flags: ["log-level"],
    help: "least important messages that are written",
  }),
  logFormat: optional(choice(["json", "pretty"]), {
    group: "logs",
    flags: ["log-format"],
    help: "one JSON document a line, or lines for people",
    unsetText: "pretty on a terminal, else json",
  }),
  noAccessLogFor: setting(list("route", "routes, `health` or `metrics`"), [], {
    group: "logs",
    flags: ["no-access-log-for"],
    help: "requests that are not logged: health, metrics, or routes such as /v1/models",
    unsetText: "none",
  }),
  enableMetricsApi: setting(yesOrNo, true, {
    group: "logs",
    key: "enable_metrics_api",
    help: "serve /metrics",
  }),
  disableSystemMetrics: setting(yesOrNo, false, {
    group: "logs",
    flags: ["disable-system-metrics"],
    key: "disable_system_metrics",
    help: "leave out the metrics of processor, memory, disk and GPUs",
  }),
} as const;
