import { randomBytes } from "node:crypto";
import { type CallReader, type CallSink, isWhiteSpace } from "./call_reader.js";
import type { ToolFormat } from "./format.js";
import { JsonCallReader } from "./json_call.js";
import { MistralCallsReader } from "./mistral_calls.js";
import { PythonCallsReader } from "./python_call.js";

/** A piece of what a model's text means. */
export type ToolDelta =
  /** `abandons`: the call of this index has turned out malformed after it was announced; the text is the whole of it, as the model wrote it. */
  | { kind: "text"; text: string; abandons?: number }
  | { kind: "call"; index: number; id: string; name: string }
  /** The JSON text of the arguments is all pieces of one index joined. */
  | { kind: "arguments"; index: number; text: string };

export interface ToolStreamOptions {
  /**
   * Names of the tools that a request has. Where no tag says that a call begins, only these names make one: an answer may be JSON, or a
   * list in brackets, that calls nothing.
   */
  names?: ReadonlySet<string> | undefined;
  /** Nothing behind the first call is passed on. Default false. */
  single?: boolean | undefined;
  /** Makes ids. Default: `call_` and 24 random letters and digits. */
  newId?: (() => string) | undefined;
}

/** Splits the text of an answer into what is said and which tools are called. Takes pieces of any length, in time linear in it. */
export interface ToolStream {
  /** How many calls are complete so far. */
  readonly completeCalls: number;
  push(text: string): ToolDelta[];
  /**
   * The text is over: what was held back.
   *
   * @param reason "length" leaves a call that is cut off in the middle of its arguments as it is; otherwise it counts as malformed.
   */
  end(reason?: "stop" | "length"): ToolDelta[];
}

interface FormatRules {
  /** Texts behind which calls begin. All tags and closers of a format begin with one character, which they have only there. */
  tags: readonly string[];
  /** Texts that may follow calls, and say nothing. */
  closers: readonly string[];
  /** The first character of a call at the beginning of an answer, or behind another call, without a tag. */
  untagged?: string;
  /** @param opensLate See JsonCallReader. */
  makeReader(opensLate: boolean): CallReader;
}

const pythonTags = ["<|python_tag|>", "<|python_start|>"];

const rules: Readonly<Record<ToolFormat, FormatRules>> = {
  hermes: { tags: ["<tool_call>"], closers: ["</tool_call>"], makeReader: () => new JsonCallReader() },
  mistral: { tags: ["[TOOL_CALLS]"], closers: [], makeReader: () => new MistralCallsReader() },
  llama3_json: {
    tags: pythonTags,
    closers: ["<|python_end|>"],
    untagged: "{",
    makeReader: (opensLate) => new JsonCallReader(opensLate),
  },
  pythonic: {
    tags: pythonTags,
    closers: ["<|python_end|>"],
    untagged: "[",
    makeReader: () => new PythonCallsReader(),
  },
};

export function makeToolStream(format: ToolFormat, options: ToolStreamOptions = {}): ToolStream {
  return new Splitter(rules[format], options);
}

export function newCallId(): string {
  const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  return `call_${Array.from(randomBytes(24), (byte) => letters[byte % letters.length]).join("")}`;
}

/** Joins the pieces of one push, and gives calls their ids. */
class Pieces implements CallSink {
  completeCalls = 0;
  /** Whether a call has been announced that is not complete. */
  isOpen = false;
  /** Of the next call, or of the one that is open. */
  index = 0;
  #deltas: ToolDelta[] = [];

  constructor(
    private readonly options: ToolStreamOptions,
    /** Whether the text that is read may be no call although it looks like one. */
    private readonly isDoubtful: () => boolean,
  ) {}

  get #isFull(): boolean {
    return this.options.single === true && this.completeCalls > 0;
  }

  take(): ToolDelta[] {
    const deltas = this.#deltas;
    this.#deltas = [];
    return deltas;
  }

  text(text: string): void {
    if (text === "" || this.#isFull) return;
    const last = this.#deltas.at(-1);
    if (last?.kind === "text" && last.abandons === undefined) last.text += text;
    else this.#deltas.push({ kind: "text", text });
  }

  open(name: string): boolean {
    if (this.isDoubtful() && this.options.names?.has(name) === false) return false;
    this.isOpen = true;
    const id = (this.options.newId ?? newCallId)();
    if (!this.#isFull) this.#deltas.push({ kind: "call", index: this.index, id, name });
    return true;
  }

  append(text: string): void {
    if (text === "" || this.#isFull) return;
    const last = this.#deltas.at(-1);
    if (last?.kind === "arguments") last.text += text;
    else this.#deltas.push({ kind: "arguments", index: this.index, text });
  }

  close(): void {
    this.isOpen = false;
    this.index++;
    if (!this.#isFull) this.completeCalls++;
  }

  /** A call is none: its text is said instead. */
  giveBack(raw: string): void {
    if (this.isOpen) {
      if (!this.#isFull) this.#deltas.push({ kind: "text", text: raw, abandons: this.index });
      this.isOpen = false;
      this.index++;
    } else {
      this.text(raw);
    }
  }
}

class Splitter implements ToolStream {
  readonly #rules: FormatRules;
  readonly #options: ToolStreamOptions;
  readonly #pieces: Pieces;
  /** Reads calls; undefined outside of them. */
  #reader: CallReader | undefined;
  #isTagged = false;
  /** Only white space so far, or only white space and closers since a call: it says nothing if a call follows. */
  #inGap = true;
  #isBehindCall = false;
  /** The text of the gap without closers, and of a call since it began: given back unless it is a call. */
  #held = "";
  /** What may be the beginning of a tag, behind #held. */
  #tag = "";

  constructor(formatRules: FormatRules, options: ToolStreamOptions) {
    this.#rules = formatRules;
    this.#options = options;
    this.#pieces = new Pieces(options, () => !this.#isTagged);
  }

  get completeCalls(): number {
    return this.#pieces.completeCalls;
  }

  push(text: string): ToolDelta[] {
    for (let index = 0; index < text.length; ) {
      if (this.#reader !== undefined) index = this.#readCalls(this.#reader, text, index);
      else if (this.#inGap || this.#tag !== "") index = this.#takeCharacter(text, index);
      else index = this.#say(text, index);
    }
    return this.#pieces.take();
  }

  end(reason: "stop" | "length" = "stop"): ToolDelta[] {
    this.#reader?.end(this.#pieces);
    const isCut = reason === "length" && this.#pieces.isOpen;
    const saysNothing = this.#reader === undefined ? this.#inGap && this.#isBehindCall : this.#reader.state === "done";
    if (!isCut && !saysNothing) this.#pieces.giveBack(this.#held + this.#tag);
    this.#reader = undefined;
    this.#held = "";
    this.#tag = "";
    return this.#pieces.take();
  }

  /** Passes text on up to what may be a tag. */
  #say(text: string, index: number): number {
    const next = text.indexOf((this.#rules.tags[0] as string)[0] as string, index);
    this.#pieces.text(next < 0 ? text.slice(index) : text.slice(index, next));
    if (next < 0) return text.length;
    this.#tag = text[next] as string;
    return next + 1;
  }

  /** Takes a character in a gap or of a tag. @returns The index of the next: the same one if this one is text. */
  #takeCharacter(text: string, index: number): number {
    const char = text[index] as string;
    const { tags, closers, untagged } = this.#rules;
    const isBetween = isWhiteSpace(char) || (char === ";" && untagged === "{" && this.#isBehindCall);
    if (this.#tag === "" && isBetween) {
      this.#held += char;
      return index + 1;
    }
    const tag = this.#tag + char;
    const known = this.#inGap && this.#isBehindCall ? [...tags, ...closers] : tags;
    if (known.some((one) => one.startsWith(tag))) {
      this.#tag = known.includes(tag) ? "" : tag;
      if (tags.includes(tag)) {
        this.#held += tag;
        this.#begin(true);
      }
      return index + 1;
    }
    if (this.#tag === "" && char === untagged) {
      this.#begin(false);
      return index;
    }
    this.#pieces.text(this.#held + this.#tag);
    this.#held = "";
    this.#tag = "";
    this.#inGap = false;
    return index;
  }

  #begin(isTagged: boolean): void {
    this.#isTagged = isTagged;
    this.#reader = this.#rules.makeReader(!isTagged && this.#options.names === undefined);
  }

  #readCalls(reader: CallReader, text: string, start: number): number {
    const index = this.#pieces.index;
    const end = reader.read(text, start, this.#pieces);
    this.#held = this.#pieces.index > index ? "" : this.#held + text.slice(start, end);
    if (reader.state === "open") return end;
    this.#reader = undefined;
    this.#inGap = this.#isBehindCall = reader.state === "done";
    if (reader.state === "failed") this.#pieces.giveBack(this.#held);
    this.#held = "";
    return end;
  }
}
