import type { FilterContext } from "./arguments.js";
import { Budget, type Limits, TemplateError, withBudget } from "./budget.js";
import { findFilter } from "./filters.js";
import { createGlobals } from "./globals.js";
import { LoopState } from "./loop.js";
import type { CallArguments, Expression, MacroBody, Statement, Target } from "./nodes.js";
import { binary, compare, concat, getAttribute, getItem, getSlice, listOf, unary } from "./operators.js";
import { applyTest } from "./tests.js";
import {
  type Arguments,
  Callable,
  Dict,
  isTrue,
  iterate,
  Namespace,
  orElse,
  Tuple,
  toText,
  typeName,
  Undefined,
  type Value,
} from "./values.js";

/** Names and their values; inner scopes see those of outer ones and do not change them. */
class Scope {
  readonly #values = new Map<string, Value>();
  readonly #outer: Scope | undefined;

  constructor(outer?: Scope) {
    this.#outer = outer;
  }
  set(name: string, value: Value): void {
    this.#values.set(name, value);
  }
  get(name: string): Value | undefined {
    const value = this.#values.get(name);
    return value !== undefined || this.#outer === undefined ? value : this.#outer.get(name);
  }
}

/** How a body ended. */
type Leaving = "break" | "continue" | undefined;

/** Renders a template with variables. */
export function render(template: Statement[], variables: Iterable<readonly [string, Value]>, limits: Limits): string {
  return new Interpreter(new Budget(limits)).render(template, variables);
}

class Interpreter implements FilterContext {
  readonly budget: Budget;
  /** The line that is being run, for errors. */
  #line = 1;
  #output: string[] = [];
  #outputLength = 0;

  constructor(budget: Budget) {
    this.budget = budget;
  }

  render(template: Statement[], variables: Iterable<readonly [string, Value]>): string {
    const globals = new Scope();
    for (const [name, value] of createGlobals(this.budget)) globals.set(name, value);
    const scope = new Scope(globals);
    for (const [name, value] of variables) scope.set(name, value);
    try {
      return withBudget(this.budget, () => this.#capture(() => this.#runAll(template, new Scope(scope))));
    } catch (error) {
      if (error instanceof TemplateError) {
        error.line ??= this.#line;
        throw error;
      }
      // What overflows the stack all the same is a template's fault too.
      if (error instanceof RangeError) throw new TemplateError(`it is too large: ${error.message}`, this.#line);
      throw error;
    }
  }

  applyFilter(name: string, value: Value, call: Arguments): Value {
    return findFilter(name)(value, call, this);
  }

  applyTest(name: string, value: Value, call: Arguments): boolean {
    return applyTest(name, value, call, this.budget);
  }

  /** What `body` writes. */
  #capture(body: () => void): string {
    const output = this.#output;
    this.#output = [];
    try {
      body();
      return this.#output.join("");
    } finally {
      this.#output = output;
    }
  }

  #write(text: string): void {
    this.#outputLength += text.length;
    this.budget.text(text.length);
    if (this.#outputLength > this.budget.limits.textLength) this.budget.text(this.#outputLength);
    this.#output.push(text);
  }

  #runAll(body: Statement[], scope: Scope): Leaving {
    for (const statement of body) {
      const leaving = this.#run(statement, scope);
      if (leaving !== undefined) return leaving;
    }
    return undefined;
  }

  #run(statement: Statement, scope: Scope): Leaving {
    this.budget.step();
    this.#line = statement.line;
    switch (statement.type) {
      case "text":
        this.#write(statement.text);
        return undefined;
      case "output":
        this.#write(toText(this.#evaluate(statement.value, scope)));
        return undefined;
      case "if": {
        const taken = statement.branches.find(({ test }) => isTrue(this.#evaluate(test, scope)));
        return this.#runAll(taken?.body ?? statement.otherwise, scope);
      }
      case "for":
        this.#runFor(statement, scope, this.#evaluate(statement.items, scope), 0);
        return undefined;
      case "break":
      case "continue":
        return statement.type;
      case "set":
        this.#assign(statement.target, this.#evaluate(statement.value, scope), scope);
        return undefined;
      case "setBlock": {
        const text = this.#capture(() => this.#runAll(statement.body, new Scope(scope)));
        const { filters } = statement;
        this.#assign(statement.target, filters === undefined ? text : this.#evaluate(filters, scope, text), scope);
        return undefined;
      }
      case "with": {
        const inner = new Scope(scope);
        // All values are those of the outer scope.
        for (const { target, value } of statement.assignments)
          this.#assign(target, this.#evaluate(value, scope), inner);
        return this.#runAll(statement.body, inner);
      }
      case "macro":
        scope.set(statement.macro.name, this.#createMacro(statement.macro, scope));
        return undefined;
      case "callBlock":
        this.#runCall(statement, scope);
        return undefined;
      case "filterBlock": {
        const text = this.#capture(() => this.#runAll(statement.body, new Scope(scope)));
        this.#write(toText(this.#evaluate(statement.filters, scope, text)));
        return undefined;
      }
      case "scope":
        return this.#runAll(statement.body, new Scope(scope));
    }
  }

  #runFor(loop: Statement & { type: "for" }, scope: Scope, source: Value, depth: number): void {
    const items = this.#filterItems(loop, scope, source);
    const state = new LoopState(
      items,
      depth,
      !loop.recursive
        ? undefined
        : (inner) => this.#capture(() => this.budget.nested(() => this.#runFor(loop, scope, inner, depth + 1))),
    );
    let ran = false;
    while (state.advance()) {
      ran = true;
      this.budget.step();
      const inner = new Scope(scope);
      inner.set("loop", state);
      this.#assign(loop.target, state.current, inner);
      if (this.#runAll(loop.body, inner) === "break") break;
    }
    if (!ran) this.#runAll(loop.otherwise, new Scope(scope));
  }

  #filterItems({ filter, target }: Statement & { type: "for" }, scope: Scope, source: Value): Value[] {
    const items = listOf(source, this.budget);
    if (filter === undefined) return items;
    return items.filter((item) => {
      const inner = new Scope(scope);
      this.#assign(target, item, inner);
      return isTrue(this.#evaluate(filter, inner));
    });
  }

  #assign(target: Target, value: Value, scope: Scope): void {
    if (target.type === "name") {
      scope.set(target.name, value);
    } else if (target.type === "field") {
      const object = scope.get(target.object);
      if (!(object instanceof Namespace)) {
        throw new TemplateError("cannot assign attribute on non-namespace object", target.line);
      }
      object.set(target.name, value);
    } else {
      const items = [...iterate(value)];
      if (items.length !== target.targets.length) {
        const few = items.length < target.targets.length;
        throw new TemplateError(
          `${few ? "not enough" : "too many"} values to unpack (expected ${target.targets.length})`,
          target.line,
        );
      }
      for (const [i, one] of target.targets.entries()) this.#assign(one, items[i] as Value, scope);
    }
  }

  #runCall({ call, caller }: Statement & { type: "callBlock" }, scope: Scope): void {
    if (call.type !== "call") throw new TemplateError("expected call", call.line);
    const given = this.#evaluateArguments(call.arguments, scope);
    given.named.set("caller", this.#createMacro(caller, scope));
    this.#write(toText(this.#call(this.#evaluate(call.callee, scope), given)));
  }

  #createMacro(macro: MacroBody, scope: Scope): Callable {
    const { name, parameters, body, reads } = macro;
    const call = ({ positional, named }: Arguments): Value => {
      const inner = new Scope(scope);
      const rest = new Map(named);
      for (const [i, { name: parameter, fallback }] of parameters.entries()) {
        let value = i < positional.length ? positional[i] : rest.get(parameter);
        if (i < positional.length && rest.has(parameter)) {
          throw new TemplateError(`macro '${name}' got multiple values for argument '${parameter}'`);
        }
        rest.delete(parameter);
        if (value === undefined) {
          value =
            fallback === undefined
              ? new Undefined(`parameter '${parameter}' was not provided`)
              : this.#evaluate(fallback, inner);
        }
        inner.set(parameter, value);
      }
      const isParameter = (word: string) => parameters.some((parameter) => parameter.name === word);
      if (reads.has("caller") && !isParameter("caller")) {
        inner.set(
          "caller",
          orElse(rest.get("caller"), () => new Undefined("No caller defined")),
        );
        rest.delete("caller");
      }
      if (reads.has("kwargs") && !isParameter("kwargs")) inner.set("kwargs", new Dict(rest));
      else this.#refuseNamed(name, rest);
      const extra = positional.slice(parameters.length);
      if (reads.has("varargs") && !isParameter("varargs")) {
        inner.set("varargs", new Tuple(extra));
      } else if (extra.length > 0) {
        throw new TemplateError(`macro '${name}' takes not more than ${parameters.length} argument(s)`);
      }
      return this.budget.nested(() => this.#capture(() => this.#runAll(body, inner)));
    };
    return new Macro(
      name,
      parameters.map((parameter) => parameter.name),
      call,
    );
  }

  #refuseNamed(macro: string, rest: ReadonlyMap<string, Value>): void {
    const [unknown] = rest.keys();
    if (unknown === undefined) return;
    throw new TemplateError(
      unknown === "caller"
        ? `macro '${macro}' was invoked with two values for the special caller argument or does not use it`
        : `macro '${macro}' takes no keyword argument '${unknown}'`,
    );
  }

  /** @param piped What a filter block or `set` block gives its first filter. */
  #evaluate(node: Expression, scope: Scope, piped?: Value): Value {
    this.budget.step();
    switch (node.type) {
      case "constant":
        return node.value;
      case "name":
        return orElse(scope.get(node.name), () => new Undefined(`'${node.name}' is undefined`));
      case "list":
        return node.items.map((item) => this.#evaluate(item, scope));
      case "tuple":
        return new Tuple(node.items.map((item) => this.#evaluate(item, scope)));
      case "dict":
        return new Dict(
          node.entries.map(({ key, value }) => [this.#evaluate(key, scope), this.#evaluate(value, scope)] as const),
        );
      case "attribute":
        return this.#at(node, () => getAttribute(this.#evaluate(node.object, scope), node.name, this.budget));
      case "item":
        return this.#at(node, () => this.#evaluateItem(node, scope));
      case "slice":
        throw new TemplateError("a slice stands alone", node.line);
      case "call":
        return this.#at(node, () =>
          this.#call(this.#evaluate(node.callee, scope), this.#evaluateArguments(node.arguments, scope)),
        );
      case "filter": {
        const operand = node.operand === undefined ? (piped ?? "") : this.#evaluate(node.operand, scope, piped);
        return this.#at(node, () =>
          this.applyFilter(node.name, operand, this.#evaluateArguments(node.arguments, scope)),
        );
      }
      case "test": {
        const operand = this.#evaluate(node.operand, scope);
        const call = this.#evaluateArguments(node.arguments, scope);
        return this.#at(node, () => this.applyTest(node.name, operand, call)) !== node.negated;
      }
      case "unary": {
        const operand = this.#evaluate(node.operand, scope);
        return node.operator === "not" ? !isTrue(operand) : this.#at(node, () => unary(node.operator as "-", operand));
      }
      case "binary": {
        const left = this.#evaluate(node.left, scope);
        const right = this.#evaluate(node.right, scope);
        return this.#at(node, () => binary(node.operator, left, right, this.budget));
      }
      case "and": {
        const left = this.#evaluate(node.left, scope);
        return isTrue(left) ? this.#evaluate(node.right, scope) : left;
      }
      case "or": {
        const left = this.#evaluate(node.left, scope);
        return isTrue(left) ? left : this.#evaluate(node.right, scope);
      }
      case "concat":
        return concat(
          node.parts.map((part) => this.#evaluate(part, scope)),
          this.budget,
        );
      case "compare":
        return this.#at(node, () => this.#compare(node, scope));
      case "condition":
        if (isTrue(this.#evaluate(node.test, scope))) return this.#evaluate(node.then, scope);
        return node.otherwise === undefined
          ? new Undefined("the inline if-expression evaluated to false and no else section was defined.")
          : this.#evaluate(node.otherwise, scope);
    }
  }

  /** Runs a step of an expression that may fail: its line is the error's. */
  #at<T>(node: Expression, run: () => T): T {
    const value = run();
    this.#line = node.line;
    return value;
  }

  #evaluateItem({ object, key }: Expression & { type: "item" }, scope: Scope): Value {
    const container = this.#evaluate(object, scope);
    if (key.type !== "slice") return getItem(container, this.#evaluate(key, scope), this.budget);
    const part = (one: Expression | undefined) => (one === undefined ? null : this.#evaluate(one, scope));
    return getSlice(container, part(key.start), part(key.stop), part(key.step), this.budget);
  }

  #compare({ first, rest }: Expression & { type: "compare" }, scope: Scope): boolean {
    let left = this.#evaluate(first, scope);
    for (const { operator, operand } of rest) {
      const right = this.#evaluate(operand, scope);
      if (!compare(operator, left, right, this.budget)) return false;
      left = right;
    }
    return true;
  }

  #evaluateArguments({ positional, named, spread, spreadNamed }: CallArguments, scope: Scope): Arguments {
    const call: Arguments = { positional: positional.map((one) => this.#evaluate(one, scope)), named: new Map() };
    for (const { name, value } of named) call.named.set(name, this.#evaluate(value, scope));
    if (spread !== undefined)
      call.positional.push(...listOf(this.#evaluate(spread, scope), this.budget).slice(0, 10_000));
    if (spreadNamed !== undefined) {
      const more = this.#evaluate(spreadNamed, scope);
      if (!(more instanceof Dict)) throw new TemplateError("argument after ** must be a mapping", spreadNamed.line);
      for (const [name, value] of more.entries()) call.named.set(toText(name), value);
    }
    return call;
  }

  #call(callee: Value, call: Arguments): Value {
    if (callee instanceof Undefined) callee.fail();
    if (callee instanceof LoopState) return callee.recurse(call);
    if (!(callee instanceof Callable)) throw new TemplateError(`'${typeName(callee)}' object is not callable`);
    return callee.call(call);
  }
}

class Macro extends Callable {
  override readonly typeName = "Macro";
  readonly #parameters: readonly string[];

  constructor(name: string, parameters: readonly string[], call: (call: Arguments) => Value) {
    super(name, call);
    this.#parameters = parameters;
  }
  override toText(): string {
    return `<Macro '${this.name}'>`;
  }
  override attribute(name: string): Value | undefined {
    if (name === "name") return this.name;
    return name === "arguments" ? new Tuple([...this.#parameters]) : undefined;
  }
}
