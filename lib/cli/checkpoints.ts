import {
  type CheckpointsJsonOptions,
  createCheckpointsJson,
  formatCheckpointsJson,
  listCheckpoints,
} from "../checkpoint/create_json.js";
import { Output, stderrLogger } from "./output.js";

interface CheckpointsFlags {
  out?: string;
  pattern?: string[];
  safetensors?: boolean;
  weightsOnly?: boolean;
  relative?: boolean;
  json?: boolean;
}

/** `shardspeed checkpoints`: the weight files of a folder, as the index that DeepSpeed takes. */
export async function checkpoints(folder: string, flags: CheckpointsFlags): Promise<void> {
  const { out, json = false, pattern: patterns, ...others } = flags;
  const options: CheckpointsJsonOptions = { ...others, ...(patterns ? { patterns } : {}) };
  const logger = stderrLogger({});
  const found =
    out === undefined
      ? await listCheckpoints(folder, options)
      : await createCheckpointsJson(folder, out, { ...options, logger });
  if (out === undefined || json) await new Output(process.stdout).write(`${formatCheckpointsJson(found)}\n`);
  else process.stderr.write(`shardspeed: ${out}: ${found.checkpoints.length} files\n`);
}
