import { type CallReader, type CallSink, isWhiteSpace } from "./call_reader.js";
import { PythonValue } from "./python_value.js";

type Place =
  | "["
  | "name"
  | "name end"
  | "argument"
  | "argument name"
  | "="
  | "value"
  | ", or )"
  | ", or ]"
  | "name or ]";

/** Longer names of functions and arguments are taken for text. */
const maxNameLength = 256;

/** Reads a list of calls as Python writes them, `[f(a=1, b="x"), g()]`, whose arguments are literals with names. */
export class PythonCallsReader implements CallReader {
  state: "open" | "done" | "failed" = "open";
  #place: Place = "[";
  #name = "";
  #value: PythonValue | undefined;
  #hasArguments = false;

  read(text: string, start: number, sink: CallSink): number {
    for (let index = start; index < text.length; ) {
      if (this.#value !== undefined) {
        index = this.#readValue(text, index, sink);
        if (this.state === "failed") return index;
        continue;
      }
      const isEndOfCall = this.#place === "argument" || this.#place === ", or )";
      const char = text[index] as string;
      if (!this.#take(char, sink)) return this.#fail(index);
      if (this.#value === undefined) index++;
      if (this.state === "done" || (isEndOfCall && char === ")")) return index;
    }
    return text.length;
  }

  end(): void {
    const lacksBracket = this.#place === ", or ]" || this.#place === "name or ]";
    if (this.state === "open") this.state = lacksBracket ? "done" : "failed";
  }

  #fail(index: number): number {
    this.state = "failed";
    return index;
  }

  #readValue(text: string, start: number, sink: CallSink): number {
    const value = this.#value as PythonValue;
    let index = start;
    let step = value.push(text[index] as string);
    while (step === "more" && ++index < text.length) step = value.push(text[index] as string);
    sink.append(value.takeJson());
    if (step === "wrong") return this.#fail(index);
    if (step === "more") return index;
    this.#value = undefined;
    this.#place = ", or )";
    return step === "last" ? index + 1 : index;
  }

  /** Takes a character outside of values. @returns false if it cannot be there. */
  #take(char: string, sink: CallSink): boolean {
    switch (this.#place) {
      case "[":
        return isWhiteSpace(char) || this.#go("name", char === "[");
      case "name":
      case "name or ]":
        if (isWhiteSpace(char)) return true;
        if (char === "]" && this.#place === "name or ]") return this.#finish();
        return this.#beginName(char, "name end");
      case "name end":
        if (char === "(") return this.#open(sink);
        return this.#continueName(char, /[\w.-]/);
      case "argument":
        if (isWhiteSpace(char)) return true;
        if (char === ")") return this.#closeCall(sink);
        return this.#beginName(char, "argument name");
      case "argument name":
      case "=":
        if (char === "=") return this.#beginValue(sink);
        if (isWhiteSpace(char)) return this.#go("=");
        return this.#place === "argument name" && this.#continueName(char, /\w/);
      case "value":
        if (!isWhiteSpace(char)) this.#value = new PythonValue();
        return true;
      case ", or )":
        if (isWhiteSpace(char)) return true;
        return char === ")" ? this.#closeCall(sink) : this.#go("argument", char === ",");
      case ", or ]":
        if (isWhiteSpace(char)) return true;
        return char === "]" ? this.#finish() : this.#go("name or ]", char === ",");
    }
  }

  #go(place: Place, isRight = true): boolean {
    this.#place = place;
    return isRight;
  }

  #beginName(char: string, place: Place): boolean {
    this.#name = char;
    return this.#go(place, /[\p{L}_]/u.test(char));
  }

  #continueName(char: string, allowed: RegExp): boolean {
    this.#name += char;
    return this.#name.length <= maxNameLength && (allowed.test(char) || /[\p{L}\p{N}]/u.test(char));
  }

  #open(sink: CallSink): boolean {
    if (!sink.open(this.#name)) return false;
    this.#hasArguments = false;
    return this.#go("argument");
  }

  #beginValue(sink: CallSink): boolean {
    sink.append(`${this.#hasArguments ? ", " : "{"}${JSON.stringify(this.#name)}: `);
    this.#hasArguments = true;
    return this.#go("value");
  }

  #closeCall(sink: CallSink): boolean {
    sink.append(this.#hasArguments ? "}" : "{}");
    sink.close();
    return this.#go(", or ]");
  }

  #finish(): boolean {
    this.state = "done";
    return true;
  }
}
