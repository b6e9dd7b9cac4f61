import { type MetricRow, oneTwoFive } from "./row.js";

/** vLLM's buckets, with finer ones below: small models take less than a millisecond. */
const finer = [0.0005, 0.001, 0.002, 0.005];
const firstToken = [
  ...finer,
  ...[0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560],
];
const betweenTokens = [
  ...finer,
  ...[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80],
];
const wholeRequest = [
  ...finer,
  ...[0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960],
  ...[1920, 7680],
];
const tokens = oneTwoFive(500_000);
const stepTokens = [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384];

const labels = ["model_name", "engine"] as const;

function gauge(help: string) {
  return { type: "gauge", labels, help } as const;
}

function counter(help: string) {
  return { type: "counter", labels, help } as const;
}

function histogram(buckets: readonly number[], help: string) {
  return { type: "histogram", labels, help, buckets } as const;
}

/** vLLM's metrics, by which dashboards, autoscalers and the gateway's inference extension know a model server. An engine is a worker. */
export const vllmRows = {
  "vllm:num_requests_running": gauge("Sequences in the engine's batch."),
  "vllm:num_requests_waiting": gauge("Requests that wait: in the engine, and for engine 0 in the model's queue too."),
  "vllm:kv_cache_usage_perc": gauge("Used part of the KV cache, from 0 to 1."),
  "vllm:lora_requests_info": {
    type: "gauge",
    labels: ["max_lora", "running_lora_adapters", "waiting_lora_adapters"],
    help: "Time of the reading, in seconds since 1970. No request chooses an adapter: --adapter merges one into the weights.",
  },
  "vllm:cache_config_info": {
    type: "gauge",
    labels: ["model_name", "engine", "block_size", "num_gpu_blocks", "cache_dtype"],
    help: "Always 1: the labels describe the KV cache. Blocks are its pages, on any device.",
  },
  "vllm:num_preemptions_total": counter("Sequences that gave their pages of the KV cache back and began again."),
  "vllm:prompt_tokens_total": counter("Tokens of prompts that were computed."),
  "vllm:generation_tokens_total": counter("Tokens that were generated."),
  "vllm:request_success_total": {
    type: "counter",
    labels: ["model_name", "engine", "finished_reason"],
    help: "Generations that ended: by stop, length, abort or error.",
  },
  "vllm:prefix_cache_queries_total": counter("Tokens of prompts that were looked for in the prefix cache."),
  "vllm:prefix_cache_hits_total": counter("Tokens of prompts that were found in the prefix cache."),
  "vllm:spec_decode_num_drafts_total": counter("Drafts of speculative decoding."),
  "vllm:spec_decode_num_draft_tokens_total": counter("Tokens of these drafts."),
  "vllm:spec_decode_num_accepted_tokens_total": counter("Tokens of these drafts that were accepted."),
  "vllm:spec_decode_num_accepted_tokens_per_pos_total": {
    type: "counter",
    labels: ["model_name", "engine", "position"],
    help: "Accepted tokens by their position in the draft.",
  },
  "vllm:time_to_first_token_seconds": histogram(firstToken, "Time from a request to its first token."),
  "vllm:inter_token_latency_seconds": histogram(betweenTokens, "Time between two tokens of a generation."),
  "vllm:request_time_per_output_token_seconds": histogram(
    betweenTokens,
    "Mean time between the tokens of a generation.",
  ),
  "vllm:e2e_request_latency_seconds": histogram(wholeRequest, "Time from a request to its last token."),
  "vllm:request_queue_time_seconds": histogram(wholeRequest, "Time from a request to the worker that computes it."),
  "vllm:request_inference_time_seconds": histogram(wholeRequest, "Time from that worker to the last token."),
  "vllm:request_prefill_time_seconds": histogram(wholeRequest, "Time from that worker to the first token."),
  "vllm:request_decode_time_seconds": histogram(wholeRequest, "Time from the first token to the last one."),
  "vllm:request_prompt_tokens": histogram(tokens, "Tokens of a prompt."),
  "vllm:request_generation_tokens": histogram(tokens, "Tokens of a generation."),
  "vllm:request_max_num_generation_tokens": histogram(tokens, "Tokens of a request's longest generation."),
  "vllm:request_params_max_tokens": histogram(tokens, "Maximum number of tokens that a request asked for."),
  "vllm:request_params_n": histogram([1, 2, 5, 10, 20], "Generations that a request asked for."),
  "vllm:iteration_tokens_total": histogram(
    stepTokens,
    "Tokens of a step: the mean of the steps between two reports of a worker.",
  ),
} as const satisfies Record<string, MetricRow>;
