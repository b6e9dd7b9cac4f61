import { bind } from "./arguments.js";
import { TemplateError } from "./budget.js";
import { type Arguments, Callable, isEqual, orElse, PyObject, Tuple, toText, Undefined, type Value } from "./values.js";

/** The `loop` of a for. */
export class LoopState extends PyObject {
  readonly typeName = "LoopContext";
  readonly #items: readonly Value[];
  readonly #depth: number;
  readonly #recurse: ((items: Value) => Value) | undefined;
  #index = -1;
  #changedFrom: Value | undefined;

  constructor(items: readonly Value[], depth: number, recurse: ((items: Value) => Value) | undefined) {
    super();
    this.#items = items;
    this.#depth = depth;
    this.#recurse = recurse;
  }

  get current(): Value {
    return this.#items[this.#index] as Value;
  }

  /** False at the end. */
  advance(): boolean {
    this.#index++;
    return this.#index < this.#items.length;
  }

  /** `loop(items)` in a recursive loop. */
  recurse(call: Arguments): Value {
    if (this.#recurse === undefined) {
      throw new TemplateError("The loop must have the 'recursive' marker to be called recursively.");
    }
    return this.#recurse(bind("loop", call, ["iterable"])[0] as Value);
  }

  override toText(): string {
    return `<LoopContext ${this.#index + 1}/${this.#items.length}>`;
  }

  override attribute(name: string): Value | undefined {
    const { length } = this.#items;
    switch (name) {
      case "index":
        return this.#index + 1;
      case "index0":
        return this.#index;
      case "revindex":
        return length - this.#index;
      case "revindex0":
        return length - this.#index - 1;
      case "first":
        return this.#index === 0;
      case "last":
        return this.#index === length - 1;
      case "length":
        return length;
      case "depth":
        return this.#depth + 1;
      case "depth0":
        return this.#depth;
      case "previtem":
        return orElse(this.#items[this.#index - 1], () => new Undefined("there is no previous item"));
      case "nextitem":
        return orElse(this.#items[this.#index + 1], () => new Undefined("there is no next item"));
      case "cycle":
        return new Callable("cycle", ({ positional }) => {
          if (positional.length === 0) throw new TemplateError("no items for cycling given");
          return positional[this.#index % positional.length] as Value;
        });
      case "changed":
        return new Callable("changed", ({ positional }) => {
          const now = new Tuple(positional);
          const changed = this.#changedFrom === undefined || !isEqual(this.#changedFrom, now);
          this.#changedFrom = now;
          return changed;
        });
    }
    return undefined;
  }
}

/** cycler(...): the next of its items at each call. */
export class Cycler extends PyObject {
  readonly typeName = "Cycler";
  readonly #items: readonly Value[];
  #place = 0;

  constructor(items: readonly Value[]) {
    super();
    if (items.length === 0) throw new TemplateError("at least one item has to be provided");
    this.#items = items;
  }

  override attribute(name: string): Value | undefined {
    const current = this.#items[this.#place] as Value;
    if (name === "current") return current;
    if (name === "reset") {
      return new Callable(name, () => {
        this.#place = 0;
        return null;
      });
    }
    if (name !== "next") return undefined;
    return new Callable(name, () => {
      this.#place = (this.#place + 1) % this.#items.length;
      return current;
    });
  }
}

/** joiner(separator): nothing at the first call, then the separator. */
export function createJoiner(separator: Value): Callable {
  let used = false;
  return new Callable("joiner", () => {
    const text = used ? toText(separator) : "";
    used = true;
    return text;
  });
}
