import { packArchive } from "../archive/pack.js";
import type { PackOptions } from "../archive/pack_options.js";
import { formatBytes } from "../base/memory.js";
import { Output, progressBar, stderrLogger } from "./output.js";
import { interruptible } from "./report.js";

/** Flags of `shardspeed archive`: the options of {@link packArchive}, with the names that commander gives them. */
export type ArchiveFlags = Omit<PackOptions, "onProgress" | "signal" | "logger"> & { json?: boolean; quiet?: boolean };

/** `shardspeed archive`: what torch-model-archiver does, with its options and exit codes. */
export async function archive({ json, quiet, ...flags }: ArchiveFlags): Promise<void> {
  // Scripts pass `-r "$FILE"` where there may be none; the original takes that for no option at all.
  const given = Object.entries(flags).filter(([name, value]) => value !== "" || required.includes(name));
  const options = Object.fromEntries(given) as unknown as PackOptions;
  const bar = quiet ? undefined : progressBar(process.stderr, "Packing");
  let shownPercent = -1;
  const onProgress: PackOptions["onProgress"] = ({ doneBytes, totalBytes }) => {
    const percent = Math.floor((100 * doneBytes) / totalBytes);
    if (percent === shownPercent) return;
    shownPercent = percent;
    bar?.update(doneBytes, totalBytes);
  };
  await interruptible(async (signal) => {
    const logger = stderrLogger(quiet ? { quiet } : {});
    const made = await packArchive({ ...options, signal, logger, onProgress }).finally(() => bar?.clear());
    if (json) await new Output(process.stdout).write(`${JSON.stringify(made, null, 2)}\n`);
    else if (!quiet) {
      const files = made.files.length === 1 ? "1 file" : `${made.files.length} files`;
      process.stderr.write(`shardspeed: made ${made.path} (${files}, ${formatBytes(made.bytes)})\n`);
    }
  });
}

const required: readonly string[] = ["modelName", "version", "handler"];
