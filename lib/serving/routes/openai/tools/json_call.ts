import { isObject } from "../../../../base/objects.js";
import { type CallReader, type CallSink, isWhiteSpace } from "./call_reader.js";
import { JsonValue } from "./json_value.js";

type Place = "{" | "key or }" | "key" | ":" | "value" | ", or }";

/** What becomes of the value that is read. */
type Role =
  /** A key, the name, or arguments that are a string with JSON in it: kept until it is whole. */
  "key" | "name" | "quoted arguments" | "arguments" | "null arguments" | "other";

/** By the first character. */
const argumentRoles: Readonly<Record<string, Role>> = {
  "{": "arguments",
  '"': "quoted arguments",
  n: "null arguments",
};

/**
 * Reads one object `{"name": ..., "arguments": {...}}`; `parameters` is another name for `arguments`. Keys may come in any order,
 * and others are ignored.
 */
export class JsonCallReader implements CallReader {
  state: "open" | "done" | "failed" = "open";
  #place: Place = "{";
  #value: JsonValue | undefined;
  #role: Role = "other";
  /** Text of a value that is kept. */
  #kept = "";
  #key = "";
  #name = "";
  #isOpen = false;
  /** Arguments from before the name. */
  #early = "";
  #hasArguments = false;

  /** @param opensLate The call is opened where its arguments begin, not at its name: other JSON may have a name too. */
  constructor(readonly opensLate = false) {}

  read(text: string, start: number, sink: CallSink): number {
    let index = start;
    while (index < text.length && this.state === "open")
      index = this.#value === undefined ? this.#readBetween(text, index, sink) : this.#readValue(text, index, sink);
    return index;
  }

  end(sink: CallSink): void {
    if (this.state !== "open") return;
    const lacksBrace = this.#value === undefined && this.#place === ", or }" && this.#hasArguments;
    if (!lacksBrace || !this.#close(sink)) this.state = "failed";
  }

  /** A character outside of keys and values. */
  #readBetween(text: string, index: number, sink: CallSink): number {
    const char = text[index] as string;
    const place = this.#place;
    if (isWhiteSpace(char)) return index + 1;
    if (char === "{" && place === "{") this.#place = "key or }";
    else if (char === ":" && place === ":") this.#place = "value";
    else if (char === "," && place === ", or }") this.#place = "key";
    else if (char === '"' && (place === "key" || place === "key or }")) return this.#begin("key", index);
    else if (place === "value") return this.#beginValue(char, index);
    else if (char !== "}" || place === "{" || place === "key" || place === ":" || !this.#close(sink))
      return this.#fail(index);
    return index + 1;
  }

  /** The character at the index cannot be there. */
  #fail(index: number): number {
    this.state = "failed";
    return index;
  }

  /** The value begins with the character at the index, which is read next. */
  #begin(role: Role, index: number): number {
    this.#value = new JsonValue();
    this.#role = role;
    this.#kept = "";
    return index;
  }

  #beginValue(char: string, index: number): number {
    if (this.#key === "name") return char === '"' && this.#name === "" ? this.#begin("name", index) : this.#fail(index);
    if (this.#key !== "arguments" && this.#key !== "parameters") return this.#begin("other", index);
    const role = argumentRoles[char];
    if (this.#hasArguments || role === undefined) return this.#fail(index);
    this.#hasArguments = true;
    return this.#begin(role, index);
  }

  #readValue(text: string, start: number, sink: CallSink): number {
    if (this.#role === "arguments" && !this.#openNamed(sink)) return this.#fail(start);
    const value = this.#value as JsonValue;
    let index = start;
    let step = value.push(text[index] as string);
    while (step === "more" && ++index < text.length) step = value.push(text[index] as string);
    const end = step === "last" ? index + 1 : index;
    if (this.#role === "arguments") this.#append(text.slice(start, end), sink);
    else if (this.#role !== "other") this.#kept += text.slice(start, end);
    if (step === "more") return end;
    this.#value = undefined;
    return step !== "wrong" && this.#take(sink) ? end : this.#fail(end);
  }

  /** Takes a value that is whole. */
  #take(sink: CallSink): boolean {
    this.#place = this.#role === "key" ? ":" : ", or }";
    if (this.#role === "key") this.#key = JSON.parse(this.#kept);
    if (this.#role === "null arguments") this.#append("{}", sink);
    if (this.#role === "quoted arguments") return this.#unquote(sink);
    if (this.#role !== "name") return true;
    this.#name = JSON.parse(this.#kept);
    if (this.#name === "") return false;
    return this.opensLate && !this.#hasArguments ? true : this.#openNamed(sink);
  }

  /** Some models write the arguments as text within the text. */
  #unquote(sink: CallSink): boolean {
    const text: string = JSON.parse(this.#kept);
    try {
      if (!isObject(JSON.parse(text))) return false;
    } catch {
      return false;
    }
    if (!this.#openNamed(sink)) return false;
    this.#append(text, sink);
    return true;
  }

  /** Opens the call once its name is known. @returns false if that is no name of a tool. */
  #openNamed(sink: CallSink): boolean {
    if (this.#isOpen || this.#name === "") return true;
    if (!sink.open(this.#name)) return false;
    this.#isOpen = true;
    if (this.#early !== "") sink.append(this.#early);
    this.#early = "";
    return true;
  }

  #append(text: string, sink: CallSink): void {
    if (this.#isOpen) sink.append(text);
    else this.#early += text;
  }

  #close(sink: CallSink): boolean {
    if (this.#name === "" || (this.opensLate && !this.#hasArguments) || !this.#openNamed(sink)) return false;
    if (!this.#hasArguments) sink.append("{}");
    sink.close();
    this.state = "done";
    return true;
  }
}
