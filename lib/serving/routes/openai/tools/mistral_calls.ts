import { type CallReader, type CallSink, isWhiteSpace } from "./call_reader.js";
import { JsonCallReader } from "./json_call.js";
import { JsonValue } from "./json_value.js";

type Place = "start" | "item" | "item or ]" | "object" | ", or ]" | "name" | "tag" | "call id" | "arguments";

/** Longer names are taken for text. */
const maxNameLength = 256;

/**
 * Reads what follows `[TOOL_CALLS]`: an array of objects, one object, or, of newer models, a name and its arguments, `f[ARGS]{...}`, with
 * `[CALL_ID]...` between them or nothing at all.
 */
export class MistralCallsReader implements CallReader {
  state: "open" | "done" | "failed" = "open";
  #place: Place = "start";
  #inArray = false;
  #object: JsonCallReader | undefined;
  #name = "";
  #tag = "";
  #value: JsonValue | undefined;

  read(text: string, start: number, sink: CallSink): number {
    let index = start;
    while (index < text.length && this.state === "open") {
      if (this.#object !== undefined) {
        const object = this.#object;
        index = object.read(text, index, sink);
        if (object.state === "failed") this.state = "failed";
        if (object.state !== "done") continue;
        this.#endCall();
        return index;
      }
      if (this.#value !== undefined) {
        index = this.#readArguments(text, index, sink);
        if (this.#value === undefined) return index;
        continue;
      }
      const isRight = this.#take(text[index] as string, sink);
      if (!isRight) this.state = "failed";
      // An object is read from its first character on.
      else if (this.#object === undefined && this.#value === undefined) index++;
    }
    return index;
  }

  end(sink: CallSink): void {
    if (this.state !== "open") return;
    this.#object?.end(sink);
    const isComplete =
      this.#object === undefined ? this.#inArray && this.#place === ", or ]" : this.#object.state === "done";
    this.state = isComplete ? "done" : "failed";
  }

  #readArguments(text: string, start: number, sink: CallSink): number {
    const value = this.#value as JsonValue;
    let index = start;
    let step = value.push(text[index] as string);
    while (step === "more" && ++index < text.length) step = value.push(text[index] as string);
    const end = step === "last" ? index + 1 : index;
    sink.append(text.slice(start, end));
    if (step === "wrong") this.state = "failed";
    if (step !== "last") return end;
    this.#value = undefined;
    sink.close();
    this.#endCall();
    return end;
  }

  #endCall(): void {
    this.#object = undefined;
    if (this.#inArray) this.#place = ", or ]";
    else this.state = "done";
  }

  /** Takes a character outside of objects. @returns false if it cannot be there. */
  #take(char: string, sink: CallSink): boolean {
    switch (this.#place) {
      case "start":
        if (isWhiteSpace(char)) return true;
        if (char === "{") return this.#beginObject();
        if (char !== "[") return this.#beginName(char);
        this.#inArray = true;
        return this.#go("item");
      case "item":
      case "item or ]":
        if (isWhiteSpace(char)) return true;
        if (char === "]" && this.#place === "item or ]") return this.#finish();
        return char === "{" && this.#beginObject();
      case ", or ]":
        if (isWhiteSpace(char)) return true;
        return char === "]" ? this.#finish() : this.#go("item or ]", char === ",");
      case "name":
        return this.#continueName(char, sink);
      case "call id":
        return char === "[" ? this.#beginTag() : /[\w\s-]/.test(char);
      case "tag":
        return this.#continueTag(char, sink);
      default:
        return isWhiteSpace(char) || (char === "{" && this.#beginArguments());
    }
  }

  #go(place: Place, isRight = true): boolean {
    this.#place = place;
    return isRight;
  }

  #beginObject(): boolean {
    this.#object = new JsonCallReader();
    return this.#go("object");
  }

  #beginName(char: string): boolean {
    this.#name = char;
    return this.#go("name", /\w/.test(char));
  }

  #continueName(char: string, sink: CallSink): boolean {
    if (char === "[") return this.#beginTag();
    if (char === "{") return sink.open(this.#name.trimEnd()) && this.#beginArguments();
    if (/\s$/.test(this.#name) && !isWhiteSpace(char)) return false;
    this.#name += char;
    return this.#name.length <= maxNameLength && /[\w.\s-]/.test(char);
  }

  #beginTag(): boolean {
    this.#tag = "[";
    return this.#go("tag");
  }

  #continueTag(char: string, sink: CallSink): boolean {
    this.#tag += char;
    if (this.#tag === "[CALL_ID]") return this.#go("call id");
    if (this.#tag === "[ARGS]") return this.#go("arguments", sink.open(this.#name.trimEnd()));
    return "[ARGS]".startsWith(this.#tag) || "[CALL_ID]".startsWith(this.#tag);
  }

  #beginArguments(): boolean {
    this.#value = new JsonValue();
    return this.#go("arguments");
  }

  #finish(): boolean {
    this.state = "done";
    return true;
  }
}
