import { TemplateError } from "./budget.js";
import type { Token, TokenKind } from "./lexer.js";
import type { BinaryOperator, CallArguments, CompareOperator, Expression, Target } from "./nodes.js";
import { Float } from "./values.js";

/** Expressions inside each other; below what the stack of JavaScript takes. */
const deepest = 100;
const comparisons: readonly string[] = ["==", "!=", "<", "<=", ">", ">="];
const constants: Record<string, true | false | null> = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
};
const keywords = new Set(["not", "and", "or", "in", "is", "if", "else", ...Object.keys(constants)]);

/** Reads expressions by Jinja2's grammar: one method a level of precedence. */
export class ExpressionParser {
  readonly #tokens: readonly Token[];
  #place = 0;
  #depth = 0;
  /** The names that have been read, for macros. */
  protected namesRead = new Set<string>();

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  protected get current(): Token {
    return this.#tokens[this.#place] as Token;
  }
  protected get following(): Token {
    return this.#tokens[Math.min(this.#place + 1, this.#tokens.length - 1)] as Token;
  }
  protected next(): Token {
    const token = this.current;
    if (token.kind !== "end") this.#place++;
    return token;
  }
  protected isOperator(text: string): boolean {
    return this.current.kind === "operator" && this.current.text === text;
  }
  protected isName(text: string): boolean {
    return this.current.kind === "name" && this.current.text === text;
  }
  protected skipOperator(text: string): boolean {
    const found = this.isOperator(text);
    if (found) this.#place++;
    return found;
  }
  protected skipName(text: string): boolean {
    const found = this.isName(text);
    if (found) this.#place++;
    return found;
  }
  protected expectOperator(text: string): void {
    if (!this.skipOperator(text)) throw this.unexpected(`'${text}'`);
  }
  protected expectName(text: string): void {
    if (!this.skipName(text)) throw this.unexpected(`'${text}'`);
  }
  protected expect(kind: TokenKind, what: string): Token {
    if (this.current.kind !== kind) throw this.unexpected(what);
    return this.next();
  }
  protected unexpected(expected: string): TemplateError {
    const { kind, text, line } = this.current;
    const found =
      kind === "end"
        ? "the end of the template"
        : kind.endsWith("_end")
          ? "the end of the tag"
          : kind === "string"
            ? "a string"
            : `'${text}'`;
    return new TemplateError(`expected ${expected}, found ${found}`, line);
  }

  protected nested<T>(read: () => T): T {
    if (this.#depth >= deepest) {
      throw new TemplateError(`it nests more than ${deepest} levels of blocks and expressions`, this.current.line);
    }
    this.#depth++;
    const result = read();
    this.#depth--;
    return result;
  }

  parseExpression(): Expression {
    return this.nested(() => this.#parseCondition());
  }

  /** An expression, or several with commas as a tuple. `condition`: whether `a if b else c` may stand there. */
  protected parseTuple(condition = true, isEnd: () => boolean = () => false): Expression {
    const { line } = this.current;
    const items: Expression[] = [];
    let comma = false;
    while (!this.#endsTuple() && !isEnd()) {
      items.push(condition ? this.parseExpression() : this.nested(() => this.#parseOr()));
      comma = this.skipOperator(",");
      if (!comma) break;
      if (items.length > 1e5) throw new TemplateError("too long a tuple", line);
    }
    if (items.length === 0) throw this.unexpected("an expression");
    return items.length === 1 && !comma && items[0] !== undefined ? items[0] : { type: "tuple", items, line };
  }

  #endsTuple(): boolean {
    return ["variable_end", "block_end", "end"].includes(this.current.kind) || this.isOperator(")");
  }

  #parseCondition(): Expression {
    const { line } = this.current;
    let then = this.#parseOr();
    while (this.skipName("if")) {
      const test = this.#parseOr();
      const otherwise = this.skipName("else") ? this.parseExpression() : undefined;
      then = { type: "condition", test, then, otherwise, line };
    }
    return then;
  }

  #parseOr(): Expression {
    let left = this.#parseAnd();
    for (let { line } = this.current; this.skipName("or"); { line } = this.current) {
      left = { type: "or", left, right: this.#parseAnd(), line };
    }
    return left;
  }

  #parseAnd(): Expression {
    let left = this.#parseNot();
    for (let { line } = this.current; this.skipName("and"); { line } = this.current) {
      left = { type: "and", left, right: this.#parseNot(), line };
    }
    return left;
  }

  #parseNot(): Expression {
    const { line } = this.current;
    if (this.isName("not")) {
      this.next();
      return { type: "unary", operator: "not", operand: this.nested(() => this.#parseNot()), line };
    }
    return this.#parseCompare();
  }

  #parseCompare(): Expression {
    const { line } = this.current;
    const first = this.#parseSum();
    const rest: { operator: CompareOperator; operand: Expression }[] = [];
    for (;;) {
      const operator = this.#comparison();
      if (operator === undefined) break;
      rest.push({ operator, operand: this.#parseSum() });
    }
    return rest.length === 0 ? first : { type: "compare", first, rest, line };
  }

  #comparison(): CompareOperator | undefined {
    const { kind, text } = this.current;
    if (kind === "operator" && comparisons.includes(text)) return this.next().text as CompareOperator;
    if (this.skipName("in")) return "in";
    if (this.isName("not") && this.following.kind === "name" && this.following.text === "in") {
      this.next();
      this.next();
      return "not in";
    }
    return undefined;
  }

  #parseBinary(operators: readonly string[], operand: () => Expression): Expression {
    let left = operand();
    while (this.current.kind === "operator" && operators.includes(this.current.text)) {
      const { text, line } = this.next();
      left = { type: "binary", operator: text as BinaryOperator, left, right: operand(), line };
    }
    return left;
  }

  #parseSum(): Expression {
    return this.#parseBinary(["+", "-"], () => this.#parseConcat());
  }

  #parseConcat(): Expression {
    const { line } = this.current;
    const first = this.#parseProduct();
    const parts = [first];
    while (this.skipOperator("~")) parts.push(this.#parseProduct());
    return parts.length === 1 ? first : { type: "concat", parts, line };
  }

  #parseProduct(): Expression {
    return this.#parseBinary(["*", "/", "//", "%"], () => this.#parsePower());
  }

  #parsePower(): Expression {
    return this.#parseBinary(["**"], () => this.#parseUnary(true));
  }

  #parseUnary(withFilters: boolean): Expression {
    const { line } = this.current;
    const sign = this.isOperator("-") ? "-" : this.isOperator("+") ? "+" : undefined;
    let node: Expression;
    if (sign !== undefined) {
      this.next();
      node = { type: "unary", operator: sign, operand: this.nested(() => this.#parseUnary(false)), line };
    } else {
      node = this.#parsePrimary();
    }
    node = this.#parsePostfix(node);
    return withFilters ? this.#parseFiltersAndTests(node) : node;
  }

  #parsePrimary(): Expression {
    const { kind, text, line } = this.current;
    switch (kind) {
      case "name":
        this.next();
        if (Object.hasOwn(constants, text)) return { type: "constant", value: constants[text] ?? null, line };
        this.namesRead.add(text);
        return { type: "name", name: text, line };
      case "string": {
        let joined = "";
        while (this.current.kind === "string") joined += this.next().text;
        return { type: "constant", value: joined, line };
      }
      case "integer":
        this.next();
        if (!Number.isSafeInteger(Number(text))) throw new TemplateError("an integer is too large", line);
        return { type: "constant", value: Number(text), line };
      case "float":
        this.next();
        return { type: "constant", value: new Float(Number(text)), line };
    }
    if (this.skipOperator("(")) return this.#parseParentheses(line);
    if (this.skipOperator("[")) {
      return { type: "list", items: this.#parseItems("]", () => this.parseExpression()), line };
    }
    if (this.skipOperator("{")) {
      const entries = this.#parseItems("}", () => {
        const key = this.parseExpression();
        this.expectOperator(":");
        return { key, value: this.parseExpression() };
      });
      return { type: "dict", entries, line };
    }
    throw this.unexpected("an expression");
  }

  #parseParentheses(line: number): Expression {
    if (this.skipOperator(")")) return { type: "tuple", items: [], line };
    const inside = this.parseTuple();
    this.expectOperator(")");
    return inside;
  }

  #parseItems<T>(close: string, parseItem: () => T): T[] {
    const items: T[] = [];
    while (!this.skipOperator(close)) {
      if (items.length > 0) this.expectOperator(",");
      if (this.skipOperator(close)) break;
      items.push(parseItem());
    }
    return items;
  }

  #parsePostfix(start: Expression): Expression {
    let node = start;
    for (;;) {
      const { line } = this.current;
      if (this.skipOperator(".")) node = this.#parseField(node, line);
      else if (this.skipOperator("[")) node = { type: "item", object: node, key: this.#parseSubscript(), line };
      else if (this.skipOperator("(")) node = { type: "call", callee: node, arguments: this.parseArguments(), line };
      else return node;
    }
  }

  #parseField(object: Expression, line: number): Expression {
    const { kind, text } = this.next();
    if (kind === "name") return { type: "attribute", object, name: text, line };
    if (kind !== "integer") throw new TemplateError("expected a name or number behind '.'", line);
    return { type: "item", object, key: { type: "constant", value: Number(text), line }, line };
  }

  #parseSubscript(): Expression {
    const { line } = this.current;
    const items: Expression[] = [];
    while (!this.isOperator("]")) {
      if (items.length > 0) this.expectOperator(",");
      items.push(this.#parseSliceOrIndex());
    }
    this.expectOperator("]");
    const [only] = items;
    if (only === undefined) throw new TemplateError("expected subscript expression", line);
    return items.length === 1 ? only : { type: "tuple", items, line };
  }

  #parseSliceOrIndex(): Expression {
    const { line } = this.current;
    const ends = () => this.isOperator("]") || this.isOperator(",");
    const part = () => (this.isOperator(":") || ends() ? undefined : this.parseExpression());
    const start = part();
    if (start !== undefined && !this.isOperator(":")) return start;
    this.expectOperator(":");
    const stop = part();
    const step = this.skipOperator(":") ? part() : undefined;
    return { type: "slice", start, stop, step, line };
  }

  /** What stands behind "(", with the ")". */
  protected parseArguments(): CallArguments {
    const found: CallArguments = { positional: [], named: [], spread: undefined, spreadNamed: undefined };
    let first = true;
    while (!this.skipOperator(")")) {
      if (!first) this.expectOperator(",");
      if (this.skipOperator(")")) break;
      first = false;
      if (this.skipOperator("**")) {
        found.spreadNamed = this.parseExpression();
      } else if (this.skipOperator("*")) {
        found.spread = this.parseExpression();
      } else if (this.current.kind === "name" && this.following.kind === "operator" && this.following.text === "=") {
        const name = this.next().text;
        this.next();
        found.named.push({ name, value: this.parseExpression() });
      } else if (found.named.length > 0 || found.spread !== undefined || found.spreadNamed !== undefined) {
        throw new TemplateError("invalid syntax for function call expression", this.current.line);
      } else {
        found.positional.push(this.parseExpression());
      }
    }
    return found;
  }

  #parseFiltersAndTests(start: Expression): Expression {
    let node = start;
    for (;;) {
      const { line } = this.current;
      if (this.isOperator("|")) node = this.parseFilters(node);
      else if (this.skipName("is")) node = this.#parseTest(node, line);
      else if (this.skipOperator("(")) node = { type: "call", callee: node, arguments: this.parseArguments(), line };
      else return node;
    }
  }

  /** `| name(arguments)` as often as it comes; without the first `|` where `bare`. */
  protected parseFilters(operand: Expression | undefined, bare = false): Expression {
    let node = operand;
    let readsName = bare;
    while (readsName || this.skipOperator("|")) {
      readsName = false;
      const { line } = this.current;
      const name = this.#parseDottedName();
      node = { type: "filter", operand: node, name, arguments: this.#optionalArguments(), line };
    }
    if (node === undefined) throw this.unexpected("a filter");
    return node;
  }

  #parseDottedName(): string {
    let name = this.expect("name", "a name").text;
    while (this.skipOperator(".")) name += `.${this.expect("name", "a name").text}`;
    return name;
  }

  #optionalArguments(): CallArguments {
    if (this.skipOperator("(")) return this.parseArguments();
    return { positional: [], named: [], spread: undefined, spreadNamed: undefined };
  }

  #parseTest(operand: Expression, line: number): Expression {
    const negated = this.skipName("not");
    const name = this.#parseDottedName();
    const { kind, text } = this.current;
    let given = this.#optionalArguments();
    const startsArgument =
      ["string", "integer", "float"].includes(kind) ||
      (kind === "operator" && (text === "[" || text === "{")) ||
      (kind === "name" && !["else", "or", "and"].includes(text));
    if (startsArgument) {
      if (text === "is" && kind === "name") {
        throw new TemplateError("You cannot chain multiple tests with is", this.current.line);
      }
      // `x is divisibleby 3`; `x is string if ...` would be an error of Jinja2 too.
      given = { ...given, positional: [this.#parsePostfix(this.#parsePrimary())] };
    }
    return { type: "test", operand, name, arguments: given, negated, line };
  }

  /** Names for `set`, `for` and `with`; `ns.field` where allowed. */
  protected parseTarget(allowField: boolean, isEnd: () => boolean): Target {
    const { line } = this.current;
    const targets: Target[] = [];
    let comma = false;
    do {
      if (targets.length > 0 && (isEnd() || this.isOperator(")"))) break;
      targets.push(this.nested(() => this.#parseOneTarget(allowField)));
      comma = this.skipOperator(",");
    } while (comma);
    const [only] = targets;
    return targets.length === 1 && !comma && only !== undefined ? only : { type: "targets", targets, line };
  }

  #parseOneTarget(allowField: boolean): Target {
    const { line } = this.current;
    if (this.skipOperator("(")) {
      const inside = this.parseTarget(allowField, () => false);
      this.expectOperator(")");
      return inside;
    }
    const name = this.expect("name", "a name to assign to").text;
    if (keywords.has(name)) throw new TemplateError(`can't assign to '${name}'`, line);
    if (allowField && this.skipOperator(".")) {
      this.namesRead.add(name);
      return { type: "field", object: name, name: this.expect("name", "a field").text, line };
    }
    return { type: "name", name, line };
  }
}
