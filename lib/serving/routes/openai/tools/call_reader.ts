/** Receives the calls that a reader finds. */
export interface CallSink {
  /** A call begins: its name is known. False if nothing of this name can be called: then the text is no call. */
  open(name: string): boolean;
  /** More of the JSON text of the call's arguments. */
  append(text: string): void;
  /** The call is complete. The reader returns at once, so that its caller knows where. */
  close(): void;
}

/** Reads the text behind what opens calls, in pieces of any length. */
export interface CallReader {
  readonly state: "open" | "done" | "failed";
  /**
   * Takes characters from `start` on: all of them, or to the end of a call, or to the end of the calls ("done"), or to the first
   * character that no call can have there ("failed").
   *
   * @returns The index of the first character that was not taken.
   */
  read(text: string, start: number, sink: CallSink): number;
  /** The text is over. Completes a call that lacks no more than what closes it; otherwise the reader has failed. */
  end(sink: CallSink): void;
}

export const isWhiteSpace = (char: string): boolean => char === " " || char === "\n" || char === "\r" || char === "\t";
