import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { parseJson } from "../base/json.js";
import { isObject, type JsonObject } from "../base/objects.js";
import { inRange, type NumberRange } from "../base/rules.js";
import { type Goodput, type LatencyName, latencyNames } from "./statistics.js";

export const backends = ["openai", "openai-chat"] as const;
export const datasetNames = ["random", "sharegpt", "custom", "prefix_repetition"] as const;

/** Where prompts come from. Lengths are in tokens. */
export type DatasetOptions =
  | { name: "random"; inputLen: number; outputLen: number; rangeRatio: number }
  | { name: "prefix_repetition"; prefixLen: number; suffixLen: number; numPrefixes: number; outputLen: number }
  | { name: "sharegpt"; path: string; outputLen?: number }
  | { name: "custom"; path: string; outputLen: number };

/** What `shardspeed bench serve` is asked to do, checked. */
export interface BenchOptions {
  backend: (typeof backends)[number];
  baseUrl: string;
  endpoint: string;
  model?: string;
  label: string;
  apiKey?: string;
  dataset: DatasetOptions;
  numPrompts: number;
  requestRate: number;
  burstiness: number;
  maxConcurrency?: number;
  seed: number;
  ignoreEos: boolean;
  temperature: number;
  extraBody: JsonObject;
  goodput: Goodput;
  percentileMetrics: LatencyName[];
  metricPercentiles: number[];
  numWarmups: number;
  readyCheckTimeoutMs: number;
  requestTimeoutMs: number;
  textMismatch: boolean;
}

/** The flags as the command line has them. */
export interface BenchFlags {
  backend: (typeof backends)[number];
  baseUrl?: string;
  host: string;
  port: number;
  endpoint?: string;
  model?: string;
  label?: string;
  datasetName: DatasetOptions["name"];
  datasetPath?: string;
  randomInputLen: number;
  randomOutputLen: number;
  randomRangeRatio: number;
  prefixRepetitionPrefixLen: number;
  prefixRepetitionSuffixLen: number;
  prefixRepetitionNumPrefixes: number;
  prefixRepetitionOutputLen: number;
  sharegptOutputLen?: number;
  customOutputLen: number;
  numPrompts: number;
  requestRate: number;
  burstiness: number;
  maxConcurrency?: number;
  seed: number;
  ignoreEos?: boolean;
  temperature: number;
  extraBody?: string;
  goodput?: string[];
  percentileMetrics: string;
  metricPercentiles: string;
  numWarmups: number;
  readyCheckTimeoutS: number;
  requestTimeoutS: number;
  textMismatch?: boolean;
}

/** A week: longer than any run, and what a timer can wait for. */
const mostSeconds = 604_800;

/** @throws ShardspeedError ERR_INVALID_ARGUMENT that names the flag. */
export function readBenchOptions(flags: BenchFlags, apiKey?: string): BenchOptions {
  const { backend, numPrompts, seed, maxConcurrency } = flags;
  checkNumbers(flags);
  const route = backend === "openai" ? "/v1/completions" : "/v1/chat/completions";
  const endpoint = flags.endpoint ?? route;
  if (!endpoint.startsWith("/")) throw invalidArgument("--endpoint", "a path that begins with /", endpoint);
  return {
    backend,
    baseUrl: flags.baseUrl ?? `http://${flags.host.includes(":") ? `[${flags.host}]` : flags.host}:${flags.port}`,
    endpoint,
    ...(flags.model === undefined ? {} : { model: flags.model }),
    label: flags.label ?? backend,
    ...(apiKey === undefined ? {} : { apiKey }),
    dataset: readDataset(flags),
    numPrompts,
    requestRate: flags.requestRate,
    burstiness: flags.burstiness,
    ...(maxConcurrency === undefined ? {} : { maxConcurrency }),
    seed,
    // Random prompts end nowhere: without it the lengths that were asked for are not what is measured.
    ignoreEos: flags.ignoreEos ?? flags.datasetName === "random",
    temperature: flags.temperature,
    extraBody: readExtraBody(flags.extraBody),
    goodput: readGoodput(flags.goodput ?? []),
    percentileMetrics: readMetricNames(flags.percentileMetrics),
    metricPercentiles: readPercentiles(flags.metricPercentiles),
    numWarmups: flags.numWarmups,
    readyCheckTimeoutMs: flags.readyCheckTimeoutS * 1000,
    requestTimeoutMs: flags.requestTimeoutS * 1000,
    textMismatch: flags.textMismatch ?? false,
  };
}

function checkNumbers(flags: BenchFlags): void {
  const integer = (name: string, value: number | undefined, minimum: number, maximum = 2 ** 31 - 1) =>
    check(name, "integer", value, { minimum, maximum });
  integer("--port", flags.port, 1, 65535);
  integer("--num-prompts", flags.numPrompts, 1, 10_000_000);
  integer("--max-concurrency", flags.maxConcurrency, 1);
  integer("--seed", flags.seed, 0, Number.MAX_SAFE_INTEGER);
  integer("--num-warmups", flags.numWarmups, 0);
  integer("--random-input-len", flags.randomInputLen, 1);
  integer("--random-output-len", flags.randomOutputLen, 1);
  integer("--prefix-repetition-prefix-len", flags.prefixRepetitionPrefixLen, 1);
  integer("--prefix-repetition-suffix-len", flags.prefixRepetitionSuffixLen, 1);
  integer("--prefix-repetition-num-prefixes", flags.prefixRepetitionNumPrefixes, 1);
  integer("--prefix-repetition-output-len", flags.prefixRepetitionOutputLen, 1);
  integer("--sharegpt-output-len", flags.sharegptOutputLen, 1);
  if (flags.customOutputLen !== -1) integer("--custom-output-len", flags.customOutputLen, 1);
  check("--random-range-ratio", "number", flags.randomRangeRatio, { minimum: 0, maximum: 1 });
  if (flags.requestRate !== Infinity) check("--request-rate", "number", flags.requestRate, { above: 0 });
  check("--burstiness", "number", flags.burstiness, { above: 0 });
  check("--temperature", "number", flags.temperature, { minimum: 0 });
  check("--ready-check-timeout-s", "number", flags.readyCheckTimeoutS, { minimum: 0, maximum: mostSeconds });
  check("--request-timeout-s", "number", flags.requestTimeoutS, { above: 0, maximum: mostSeconds });
}

function check(name: string, kind: "integer" | "number", value: number | undefined, range: NumberRange): void {
  if (value === undefined) return;
  const checked = inRange(kind, range)(value);
  if ("expected" in checked) throw invalidArgument(name, checked.expected, value);
}

function readDataset(flags: BenchFlags): DatasetOptions {
  const { datasetName: name, datasetPath: path } = flags;
  switch (name) {
    case "random":
      return {
        name,
        inputLen: flags.randomInputLen,
        outputLen: flags.randomOutputLen,
        rangeRatio: flags.randomRangeRatio,
      };
    case "prefix_repetition":
      return {
        name,
        prefixLen: flags.prefixRepetitionPrefixLen,
        suffixLen: flags.prefixRepetitionSuffixLen,
        numPrefixes: flags.prefixRepetitionNumPrefixes,
        outputLen: flags.prefixRepetitionOutputLen,
      };
  }
  if (path === undefined) {
    throw new ShardspeedError(
      "ERR_INVALID_ARGUMENT",
      `--dataset-name ${name} needs --dataset-path, the file of the data`,
    );
  }
  if (name === "custom") return { name, path, outputLen: flags.customOutputLen };
  return { name, path, ...(flags.sharegptOutputLen === undefined ? {} : { outputLen: flags.sharegptOutputLen }) };
}

function readExtraBody(text: string | undefined): JsonObject {
  if (text === undefined) return {};
  const value = parseJson(text, "--extra-body", "ERR_INVALID_ARGUMENT");
  if (!isObject(value)) throw invalidArgument("--extra-body", "a JSON object", value);
  return value;
}

/** `ttft:500 e2el:2000`, in milliseconds. */
function readGoodput(pairs: readonly string[]): Goodput {
  const goodput: Goodput = {};
  for (const pair of pairs) {
    const match = /^(ttft|tpot|e2el):(\d+(?:\.\d+)?)$/.exec(pair);
    if (match === null) throw invalidArgument("--goodput", "ttft:MS, tpot:MS or e2el:MS", pair);
    goodput[match[1] as keyof Goodput] = Number(match[2]);
  }
  return goodput;
}

function readMetricNames(text: string): LatencyName[] {
  const names = text.split(",").map((name) => name.trim());
  for (const name of names) {
    if (!(latencyNames as readonly string[]).includes(name)) {
      throw invalidArgument("--percentile-metrics", `a list of ${latencyNames.join(", ")}`, text);
    }
  }
  return names as LatencyName[];
}

function readPercentiles(text: string): number[] {
  const percentiles = text.split(",").map((one) => (one.trim() === "" ? Number.NaN : Number(one)));
  if (percentiles.every((one) => one >= 0 && one <= 100)) return percentiles;
  throw invalidArgument("--metric-percentiles", "a list of numbers from 0 to 100, such as 50,90,99", text);
}
