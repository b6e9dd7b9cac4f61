import { type Command, InvalidArgumentError, Option } from "commander";
import { parseDecimal, parseInteger } from "./flags.js";

function parseRate(text: string): number {
  return /^\+?inf(inity)?$/i.test(text.trim()) ? Number.POSITIVE_INFINITY : parseRateNumber(text);
}

function parseRateNumber(text: string): number {
  try {
    return parseDecimal(text);
  } catch {
    throw new InvalidArgumentError("Expected a number, or inf.");
  }
}

/** The flags of `shardspeed bench serve`, named as in `vllm bench serve`. */
export function addBenchServeFlags(command: Command): Command {
  return addResultFlags(addLoadFlags(addPromptFlags(addServerFlags(command))));
}

function addServerFlags(command: Command): Command {
  return command
    .addOption(
      new Option("--backend <backend>", "API to measure: completions, or chat completions")
        .choices(["openai", "openai-chat"])
        .default("openai"),
    )
    .option("--base-url <url>", "address of the server, in place of --host and --port")
    .option("--host <host>", "host of the server", "127.0.0.1")
    .option("--port <port>", "port of the server", parseInteger, 8000)
    .option("--endpoint <path>", "route to measure (default: the backend's)")
    .option("--model <name>", "model to name in requests (default: the first that the server lists)")
    .option("--label <text>", "name of the run in its result (default: the backend)")
    .option("--api-key <key>", "key of the server (default: from OPENAI_API_KEY)")
    .option("--api-key-file <file>", "file whose first line is the key")
    .option("--ready-check-timeout-s <s>", "how long to wait for the server; 0: no test request", parseDecimal, 600)
    .addOption(new Option("--ready-check-timeout-sec <s>").argParser(parseDecimal).hideHelp()) // vLLM's spelling
    .option("--request-timeout-s <s>", "after this a request has failed", parseDecimal, 21600);
}

function addPromptFlags(command: Command): Command {
  return command
    .addOption(
      new Option("--dataset-name <name>", "where prompts come from")
        .choices(["random", "sharegpt", "custom", "prefix_repetition"])
        .default("random"),
    )
    .option("--dataset-path <file>", "file of sharegpt (JSON) or custom (JSON lines)")
    .option("--random-input-len <n>", "random: tokens of a prompt", parseInteger, 1024)
    .option("--random-output-len <n>", "random: new tokens of a request", parseInteger, 128)
    .option("--random-range-ratio <x>", "random: lengths vary by this part up and down", parseDecimal, 0)
    .option("--prefix-repetition-prefix-len <n>", "prefix_repetition: tokens of a prefix", parseInteger, 256)
    .option("--prefix-repetition-suffix-len <n>", "prefix_repetition: tokens behind it", parseInteger, 256)
    .option("--prefix-repetition-num-prefixes <n>", "prefix_repetition: different prefixes", parseInteger, 10)
    .option("--prefix-repetition-output-len <n>", "prefix_repetition: new tokens", parseInteger, 128)
    .option("--sharegpt-output-len <n>", "sharegpt: new tokens (default: as the recorded answer)", parseInteger)
    .option("--custom-output-len <n>", "custom: new tokens; -1: output_tokens of each line", parseInteger, 256)
    .option("--ignore-eos", "generate to the full length (default for random)")
    .option("--no-ignore-eos", "let answers end where the model ends them")
    .option("--temperature <x>", "temperature of requests", parseDecimal, 0)
    .option("--extra-body <json>", "JSON object whose keys are added to each request");
}

function addLoadFlags(command: Command): Command {
  return command
    .option("--num-prompts <n>", "number of requests", parseInteger, 1000)
    .addOption(
      new Option("--request-rate <r>", "requests a second; inf: all at once")
        .argParser(parseRate)
        .default(Number.POSITIVE_INFINITY, "inf"),
    )
    .option("--burstiness <x>", "1: Poisson arrivals; below: bursts; above: more even", parseDecimal, 1)
    .option("--max-concurrency <n>", "most requests at a time (default: no limit)", parseInteger)
    .option("--seed <n>", "seed of prompts and arrival times", parseInteger, 0)
    .option("--text-mismatch", "send each prompt twice, and count different texts")
    .option("--num-warmups <n>", "requests before the measurement", parseInteger, 0);
}

function addResultFlags(command: Command): Command {
  return command
    .option("--goodput <objectives...>", "count requests that meet ttft:MS, tpot:MS, e2el:MS")
    .option("--percentile-metrics <list>", "latencies of the table: ttft, tpot, itl, e2el", "ttft,tpot,itl")
    .option("--metric-percentiles <list>", "percentiles of latencies", "99")
    .option("--save-result", "write the result as a JSON file")
    .option("--save-detailed", "the same, with lengths, times and text of every request")
    .option("--result-dir <folder>", "folder of the file (default: the current one)")
    .option("--result-filename <name>", "name of the file (default: from label, rate, model and time)")
    .option("--json", "the result as a JSON document on the standard output, in place of the table");
}
