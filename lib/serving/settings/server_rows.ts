import {
  address,
  bytes,
  expression,
  expressions,
  integer,
  list,
  pattern,
  seconds,
  text,
  words,
  yesOrNo,
} from "./kinds.js";
import { handlerMap, modelSettings, modelsToLoad } from "./model_kinds.js";
import { optional, setting } from "./row.js";

/** Which models are served, and with how many workers. */
export const modelRows = {
  modelFolder: optional(text("model", "a folder or an archive"), {
    group: "models",
    help: "model folder or archive to serve: the command's argument. Everything but management then is on one listener",
  }),
  loadModels: setting(modelsToLoad, [], {
    group: "models",
    flags: ["models"],
    key: "load_models",
    help: "models to load at the start, from the model store or by path",
    unsetText: "none",
  }),
  modelStore: optional(text("folder", "a folder"), {
    group: "models",
    flags: ["model-store"],
    key: "model_store",
    help: "folder of model archives",
  }),
  modelSettings: setting(modelSettings, [], {
    group: "models",
    key: "models",
    help: "settings of models by name and version; a model's own model-config.yaml goes first",
    unsetText: "none",
  }),
  configFile: optional(text("file", "a file"), {
    group: "models",
    flags: ["ts-config", "config-file"],
    help: "TorchServe's config.properties",
    unsetText: "config.properties in the current folder, if there is no MODEL",
  }),
  servedModelNames: setting(list("name", "names"), [], {
    group: "models",
    flags: ["served-model-name"],
    help: "names of MODEL in requests; the first is the one in answers without a name",
    unsetText: "the folder's name",
  }),
  handlerMap: setting(
    handlerMap,
    {},
    {
      group: "models",
      flags: ["handler-map"],
      help: "handlers to run in place of Python handlers: custom_handler.py=TextGenerationHandler",
      unsetText: "none",
    },
  ),
  allowedUrls: setting(expressions("regex"), [], {
    group: "models",
    flags: ["allowed-urls"],
    key: "allowed_urls",
    help: "URLs that models may be registered from; the whole URL must match one. Files outside of the model store are file:// URLs",
    unsetText: "only files of the model store",
  }),
  downloadLimitBytes: setting(bytes({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }), 16 * 2 ** 30, {
    group: "models",
    flags: ["download-limit"],
    help: "largest archive that is downloaded to the model store",
    unsetText: "16GiB",
  }),
  downloadTimeoutS: setting(seconds({ above: 0 }), 3600, {
    group: "models",
    flags: ["download-timeout-s"],
    help: "seconds that the download of an archive may take; without any byte no more than 60",
  }),
  defaultWorkersPerModel: setting(integer({ minimum: 1, maximum: 1024 }, 1), 1, {
    group: "models",
    flags: ["default-workers-per-model"],
    key: "default_workers_per_model",
    help: "workers of a model that is loaded at the start and names no number",
  }),
  defaultResponseTimeoutS: setting(integer({ minimum: 1, maximum: 2_000_000 }), 120, {
    group: "models",
    flags: ["default-response-timeout"],
    key: "default_response_timeout",
    help: "seconds a handler may take for an answer, or between two parts of one; then its worker is started anew",
  }),
  defaultStartupTimeoutS: setting(integer({ minimum: 1, maximum: 2_000_000 }), 120, {
    group: "models",
    flags: ["default-startup-timeout"],
    key: "default_startup_timeout",
    help: "seconds a worker may take to load its model",
  }),
  unregisterModelTimeoutS: setting(integer({ minimum: 1, maximum: 2_000_000 }), 120, {
    group: "models",
    flags: ["unregister-model-timeout"],
    key: "unregister_model_timeout",
    help: "seconds the workers of a model may take to end when it is unregistered",
  }),
  decodeInputRequest: setting(yesOrNo, true, {
    group: "models",
    key: "decode_input_request",
    help: "handlers get JSON parsed and text as strings; otherwise all bodies are bytes",
  }),
  hiddenVariables: optional(expression("regex"), {
    group: "models",
    flags: ["blacklist-env-vars"],
    key: "blacklist_env_vars",
    help: "environment variables that workers do not see: a regular expression that the whole name matches",
  }),
} as const;

/** Where the server listens. */
export const listenerRows = {
  inferenceAddress: setting(
    address({ http: 80, https: 443 }),
    { isTls: false, host: "127.0.0.1", port: 8080 },
    {
      group: "listeners",
      flags: ["inference-address"],
      key: "inference_address",
      help: "listener of the inference APIs and the page",
    },
  ),
  host: optional(text("host", "a host name or address"), {
    group: "listeners",
    flags: ["host"],
    help: "host of the inference listener, in place of the one in its address",
  }),
  port: optional(integer({ minimum: 0, maximum: 65535 }), {
    group: "listeners",
    flags: ["port"],
    help: "port of the inference listener, in place of the one in its address; 0: a free one",
  }),
  managementAddress: optional(address({ http: 8081, https: 8444 }), {
    group: "listeners",
    flags: ["management-address"],
    key: "management_address",
    help: "listener of the management API",
    unsetText: "http://127.0.0.1:8081; with MODEL: none",
  }),
  metricsAddress: optional(address({ http: 8082, https: 8445 }), {
    group: "listeners",
    flags: ["metrics-address"],
    key: "metrics_address",
    help: "listener of /metrics",
    unsetText: "http://127.0.0.1:8082; with MODEL: the inference listener",
  }),
  sslKeyFile: optional(text("file", "a PEM file"), {
    group: "listeners",
    flags: ["ssl-keyfile"],
    key: "private_key_file",
    help: "private key for https: addresses",
  }),
  sslCertificateFile: optional(text("file", "a PEM file"), {
    group: "listeners",
    flags: ["ssl-certfile"],
    key: "certificate_file",
    help: "certificate chain for https: addresses",
  }),
  rootPath: setting(pattern("path", "a path such as `/llm`", /^(\/[\w.~-]+)*\/?$/), "", {
    group: "listeners",
    flags: ["root-path"],
    help: "prefix that a proxy in front takes away, for links of the page and of the API's description",
    unsetText: "none",
  }),
  keepAliveS: setting(seconds({ minimum: 0 }), 125, {
    group: "listeners",
    flags: ["keep-alive-s"],
    help: "seconds an idle connection is kept: more than proxies keep theirs",
  }),
  bodyLimitBytes: setting(bytes({ minimum: 1, maximum: 2 ** 31 - 1 }), 32 * 2 ** 20, {
    group: "listeners",
    flags: ["body-limit"],
    key: "max_request_size",
    help: "largest body of a request",
    unsetText: "32MiB",
  }),
  maxHeaderBytes: setting(bytes({ minimum: 1024, maximum: 2 ** 24 }), 2 ** 14, {
    group: "listeners",
    flags: ["max-header-size"],
    help: "largest headers of a request, all together",
    unsetText: "16KiB",
  }),
} as const;

/** How long requests wait, and how the server ends. */
export const requestRows = {
  maxQueuedRequests: setting(integer({ minimum: 1, maximum: 1_000_000 }, 100), 100, {
    group: "requests",
    flags: ["max-queued-requests"],
    key: "job_queue_size",
    help: "requests of a model that may wait; further ones are refused",
  }),
  queueFullStatus: setting(words<429 | 503>({ 503: 503, 429: 429 }, ["503", "429"]), 503, {
    group: "requests",
    flags: ["queue-full-status"],
    help: "HTTP status of a request that finds the queue full",
  }),
  queueTimeoutS: setting(seconds({ minimum: 0 }), 0, {
    group: "requests",
    flags: ["queue-timeout-s"],
    help: "seconds a request may wait for its start; 0: any time",
  }),
  requestTimeoutS: setting(seconds({ minimum: 0 }), 0, {
    group: "requests",
    flags: ["request-timeout-s"],
    help: "seconds a generation may take, its wait included; 0: any time",
  }),
  stallTimeoutS: setting(seconds({ above: 0 }), 60, {
    group: "requests",
    flags: ["stall-timeout-s"],
    help: "seconds without a step, though there is work, until /ready fails",
  }),
  ssePingIntervalS: setting(seconds({ minimum: 0 }), 15, {
    group: "requests",
    flags: ["sse-ping-interval-s"],
    help: "seconds of silence until a stream gets a comment that keeps proxies from closing it; 0: never",
  }),
  streamIntervalMs: setting(integer({ minimum: 0, maximum: 10_000 }), 20, {
    group: "requests",
    flags: ["stream-interval-ms"],
    help: "least milliseconds between two chunks of a stream: tokens that come faster share one; 0: none",
  }),
  streamChunksPerSecond: optional(integer({ minimum: 1, maximum: 1_000_000 }), {
    group: "requests",
    flags: ["stream-chunks-per-second"],
    help: "most chunks a second of all streams of a worker together; each has one every 200 ms anyway. Default: 125 for each processor",
  }),
  drainDelayS: setting(seconds({ minimum: 0 }), 0, {
    group: "requests",
    flags: ["drain-delay-s"],
    help: "seconds after SIGTERM during which requests are still accepted, while /ready fails already",
  }),
  shutdownTimeoutS: setting(seconds({ minimum: 0 }), 60, {
    group: "requests",
    flags: ["shutdown-timeout-s"],
    help: "seconds that accepted requests may take to finish after that",
  }),
} as const;
