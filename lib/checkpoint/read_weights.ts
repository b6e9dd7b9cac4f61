import type { Logger } from "../base/logger.js";
import { gitLfsPointer, isGitLfsPointer } from "../base/regular_file.js";
import { checkpointError } from "./errors.js";
import { readSafetensors } from "./safetensors.js";
import { readTorchLegacy } from "./torch_legacy.js";
import type { NestedStateDict } from "./torch_state.js";
import { readTorchZip } from "./torch_zip.js";
import type { FileTensor, WeightFile } from "./weight_file.js";

/**
 * The tensors of a weights file of any form, told by its content: `.bin` and `.pt` mean several things.
 *
 * @param nested For torch files whose state dicts lie inside of each other, as Megatron-LM's do.
 */
export async function readWeights(file: WeightFile, logger: Logger, nested?: NestedStateDict): Promise<FileTensor[]> {
  const head = await file.read(0, Math.min(file.bytes, 512));
  const foreign = nameForeignContent(head);
  if (foreign !== undefined) throw checkpointError({ file: file.path }, `is ${foreign}`);
  // Before the pickle: a header of 640 bytes makes a safetensors file begin as a pickle does.
  if (looksLikeSafetensors(head)) return await readSafetensors(file);
  const text = head.toString("latin1");
  if (text.startsWith("PK")) return await readTorchZip(file, logger, nested);
  if (head[0] === 0x80 || text.startsWith(kMagicNumberText)) return await readTorchLegacy(file, logger, nested);
  if (file.path.endsWith(".safetensors")) return await readSafetensors(file);
  throw checkpointError(
    { file: file.path },
    `is neither a safetensors nor a torch file: it begins with the bytes ${head.toString("hex", 0, 8)}`,
  );
}

/** torch's magic number as pickle protocols 0 and 1 write it. */
const kMagicNumberText = "L119547037146038801333356L";

function looksLikeSafetensors(head: Buffer): boolean {
  return head.length > 8 && head.readUInt32LE(4) === 0 && head[8] === "{".charCodeAt(0);
}

/** What a file holds that is known not to be weights; undefined where it may be. */
export function nameForeignContent(head: Buffer): string | undefined {
  if (head.length === 0) return "empty: its download or copy did not finish";
  if (isGitLfsPointer(head)) return gitLfsPointer;
  const text = head.toString("latin1");
  if (/^\s*<(!doctype html|html|\?xml)/i.test(text)) return "a web page instead of a weights file: download it again";
  if (text.startsWith("GGUF")) return "a GGUF file, expected safetensors or a torch file: take the original checkpoint";
  if (text.startsWith("\x89HDF")) return "an HDF5 file (Keras), expected safetensors or a torch file";
  if (text.startsWith("\x1f\x8b")) return "a gzip archive, expected safetensors or a torch file: unpack it first";
  if (text.slice(257, 262) === "ustar") {
    return "a tar archive: unpack it first, or (where torch before 0.1.11 wrote it) save it again with a newer torch";
  }
  return undefined;
}
