/** How a model writes tool calls. */
export type ToolFormat = "hermes" | "llama3_json" | "mistral" | "pythonic";

/** A piece of an answer: text, the beginning of a call, or more of a call's arguments, which joined are JSON. */
export type ToolDelta =
  | { kind: "text"; text: string }
  | { kind: "call"; index: number; id: string; name: string }
  | { kind: "arguments"; index: number; text: string };

/** Takes an answer as it comes, and tells text from calls. */
export interface ToolStream {
  push(text: string): ToolDelta[];
  end(): ToolDelta[];
}

/** Formats whose calls are told from text. Without one, calls stay text. */
export interface ToolParsers {
  makeToolStream(format: ToolFormat): ToolStream;
  detectToolFormat(chatTemplate: string | undefined): ToolFormat | undefined;
}

export const noToolParsers: ToolParsers = {
  makeToolStream: () => ({ push: (text) => (text === "" ? [] : [{ kind: "text", text }]), end: () => [] }),
  detectToolFormat: () => undefined,
};
