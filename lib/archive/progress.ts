/** How far the work on an archive is. Of packing: the bytes of the inputs; of unpacking: those of the archive. */
export interface ArchiveProgress {
  doneBytes: number;
  totalBytes: number;
}

/** Calls a caller's callback, and remembers what it throws: that is no failure of the archive. */
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

  /** Throws what the callback has thrown. */
  rethrow(): void {
    if (this.#thrown !== undefined) throw this.#thrown.error;
  }
}
