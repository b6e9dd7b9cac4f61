import { processorShare } from "../../base/machine.js";
import type { StreamPace } from "../../engine/generation.js";
import type { WorkerPlan } from "./protocol.js";

/**
 * Chunks a second and processor, where the settings say nothing: a chunk takes 0.2 ms of worker, server and a client on the same machine, so that
 * streams take 2.5 % of the processors from the ranks.
 */
const chunksPerProcessor = 125;

/** So that readers of very many streams see them go on. */
const longestIntervalMs = 200;

/**
 * How often the streams of a worker have a chunk: at most every `streamIntervalMs`, and all together at most `streamChunksPerSecond` times a
 * second, but each at least every 200 ms, as far as it has tokens.
 *
 * @param running How many calls the worker answers now.
 */
export function paceOf(
  { streamIntervalMs, streamChunksPerSecond }: Pick<WorkerPlan, "streamIntervalMs" | "streamChunksPerSecond">,
  running: () => number,
): StreamPace {
  const perSecond = streamChunksPerSecond ?? chunksPerProcessor * processorShare();
  const shareMs = () => Math.min(longestIntervalMs, (running() * 1000) / perSecond);
  return { chunkIntervalMs: () => Math.max(streamIntervalMs, shareMs()) };
}
