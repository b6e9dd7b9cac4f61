import type { Stats } from "node:fs";
import { type FileHandle, stat } from "node:fs/promises";
import { throwIfAborted } from "../base/abort.js";
import { ShardspeedError } from "../base/errors.js";
import { openRegularFile } from "../base/regular_file.js";
import { describeSystemError } from "../base/system_errors.js";
import { checkpointError } from "./errors.js";
import type { TensorEntry } from "./types.js";

/** A tensor as the reader of one file knows it: which file of the checkpoint that is comes later. */
export type FileTensor = Omit<TensorEntry, "file">;

/** A weights file opened for reading its headers. */
export class WeightFile {
  readonly #handle: FileHandle;
  readonly #signal: AbortSignal | undefined;

  private constructor(
    readonly path: string,
    readonly bytes: number,
    handle: FileHandle,
    signal: AbortSignal | undefined,
  ) {
    this.#handle = handle;
    this.#signal = signal;
  }

  /**
   * Runs `body` on the opened file and closes the file whatever happens.
   *
   * @throws ERR_CHECKPOINT where there is no such file, it is not a regular file or may not be read.
   */
  static async use<T>(
    path: string,
    signal: AbortSignal | undefined,
    body: (file: WeightFile) => Promise<T>,
  ): Promise<T> {
    checkAborted(signal);
    const { handle, stats } = await openRegularFile(path, (reason, cause) =>
      checkpointError({ file: path }, reason, cause),
    );
    try {
      return await body(new WeightFile(path, stats.size, handle, signal));
    } catch (error) {
      throw ShardspeedError.isInstance(error) ? error : systemError(path, error);
    } finally {
      await handle.close();
    }
  }

  /** Exactly `length` bytes at `position`. */
  async read(position: number, length: number): Promise<Buffer> {
    checkAborted(this.#signal);
    if (!(position >= 0 && length >= 0 && position + length <= this.bytes)) {
      throw checkpointError(
        { file: this.path },
        `needs ${length} bytes at ${position}, but the file ends at ${this.bytes}: it is truncated or damaged`,
      );
    }
    const buffer = Buffer.allocUnsafe(length);
    let done = 0;
    while (done < length) {
      const { bytesRead } = await this.#handle.read(buffer, done, length - done, position + done);
      if (bytesRead === 0) throw checkpointError({ file: this.path }, "became shorter while it was read");
      done += bytesRead;
    }
    return buffer;
  }
}

/** What lies at a path, links followed. @throws ERR_CHECKPOINT where it cannot be known. */
export async function statPath(path: string): Promise<Stats> {
  try {
    return await stat(path);
  } catch (error) {
    throw systemError(path, error);
  }
}

export function checkAborted(signal: AbortSignal | undefined): void {
  throwIfAborted(signal, "Opening the checkpoint");
}

export function systemError(path: string, error: unknown): ShardspeedError {
  return checkpointError({ file: path }, describeSystemError(error), error);
}

/** What training and other tools leave beside the weights under the endings of weights. */
const companion =
  /^(optim|scheduler|scaler|training_args|trainer_state|rng_state|random_states|adapter_|tokenizer|vocab|openvino_)/i;

/** Whether a file of this name (without its folder) may hold a model's weights, as far as the name tells. */
export function isWeightName(name: string): boolean {
  return !name.startsWith(".") && !companion.test(name);
}
