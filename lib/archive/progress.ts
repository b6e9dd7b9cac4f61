/** Progress of work on an archive, in bytes: of the inputs when packing, of the archive when unpacking. */
export interface ArchiveProgress {
  /** Bytes that have been packed or unpacked. */
  doneBytes: number;
  /** Bytes of all of it. */
  totalBytes: number;
}

/** Calls a caller's callback, and keeps its error, which is not a failure of the archive. */
export class ProgressReporter {
  #thrown: { error: unknown } | undefined;

  constructor(readonly onProgress: ((progress: ArchiveProgress) => void) | undefined) {}

  report(doneBytes: number, totalBytes: number): void {
    try {
      this.onProgress?.({ doneBytes, totalBytes });
    } catch (error) {
      this.#thrown = { error };
      throw error;
    }
  }

  /** Throws the error of the callback, if there was one. */
  rethrow(): void {
    if (this.#thrown !== undefined) throw this.#thrown.error;
  }
}
