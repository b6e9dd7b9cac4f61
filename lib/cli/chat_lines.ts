import { createInterface, type Interface } from "node:readline";

/** The lines of the input: of a keyboard, a pipe or a file. */
export class ChatLines {
  readonly #reader: Interface;
  readonly #isTerminal: boolean;
  readonly #ready: string[] = [];
  readonly #pasted: string[] = [];
  #isPasting = false;
  #isOver = false;
  #wake: () => void = () => {};

  /** @param onInterrupt Called at Ctrl-C on a terminal; where lines come from a file, that is a signal of the process. */
  constructor(input: NodeJS.ReadStream, output: NodeJS.WriteStream, onInterrupt: () => void) {
    this.#isTerminal = input.isTTY === true && output.isTTY === true;
    this.#reader = createInterface({
      input,
      ...(this.#isTerminal ? { output, historySize: 1000, removeHistoryDuplicates: true } : {}),
      terminal: this.#isTerminal,
      prompt: "> ",
      crlfDelay: Number.POSITIVE_INFINITY,
    });
    this.#reader.on("line", (line) => this.#take(line));
    this.#reader.on("close", () => {
      this.#isOver = true;
      this.#wake();
    });
    this.#reader.on("SIGINT", onInterrupt);
    if (!this.#isTerminal) return;
    // Bracketed paste: the terminal says where a pasted text begins and ends, so that its lines are one message.
    output.write("\u001b[?2004h");
    input.on("keypress", (_text: unknown, key: { name?: string } | undefined) => {
      if (key?.name === "paste-start") this.#isPasting = true;
      if (key?.name === "paste-end") this.#isPasting = false;
    });
    this.#reader.on("close", () => output.write("\u001b[?2004l"));
  }

  /** The next message; undefined at the end of the input. On a terminal it asks for one. */
  async next(): Promise<string | undefined> {
    if (this.#ready.length === 0 && !this.#isOver) {
      if (this.#isTerminal) this.#reader.prompt();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#ready.shift();
  }

  /** Takes away what has been typed; false where there is nothing. */
  clear(): boolean {
    const isEmpty = !this.#isTerminal || (this.#reader.line === "" && this.#pasted.length === 0);
    if (isEmpty) return false;
    this.#pasted.length = 0;
    // Ctrl-E, Ctrl-U: to the end of the line, and away with what is ahead of it.
    this.#reader.write(null, { ctrl: true, name: "e" });
    this.#reader.write(null, { ctrl: true, name: "u" });
    return true;
  }

  close(): void {
    this.#reader.close();
  }

  #take(line: string): void {
    this.#pasted.push(line);
    if (this.#isPasting) return;
    this.#ready.push(this.#pasted.splice(0).join("\n"));
    this.#wake();
  }
}
