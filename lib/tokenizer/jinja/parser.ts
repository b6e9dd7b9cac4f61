import { TemplateError } from "./budget.js";
import { ExpressionParser } from "./expression_parser.js";
import { tokenize } from "./lexer.js";
import type { Expression, MacroBody, Parameter, Statement, Target } from "./nodes.js";

/** Reads a template. */
export function parseTemplate(source: string): Statement[] {
  return new Parser(tokenize(source)).parseTemplate();
}

class Parser extends ExpressionParser {
  /** What the blocks that are open would be closed by, for messages. */
  readonly #open: string[] = [];
  #loops = 0;

  parseTemplate(): Statement[] {
    return this.#parseBody([]);
  }

  /** Statements up to a tag with one of these names, which is then the current token; without names, to the end. */
  #parseBody(ends: readonly string[]): Statement[] {
    const body: Statement[] = [];
    for (;;) {
      const { kind, text, line } = this.current;
      if (kind === "end") {
        if (ends.length === 0) return body;
        throw new TemplateError(`the template ends inside a block: expected ${ends.join(" or ")}`, line);
      }
      this.next();
      if (kind === "data") {
        body.push({ type: "text", text, line });
      } else if (kind === "variable_begin") {
        body.push({ type: "output", value: this.parseTuple(), line });
        this.expect("variable_end", "the end of the expression");
      } else {
        if (this.current.kind === "name" && ends.includes(this.current.text)) return body;
        const statement = this.nested(() => this.#parseStatement());
        if (statement !== undefined) body.push(statement);
        this.expect("block_end", "the end of the tag");
      }
    }
  }

  #blockEnd(): void {
    this.expect("block_end", "the end of the tag");
  }

  /** A body behind a tag that has been read up to its end, and the name that ended it. */
  #parseInside(...ends: string[]): Statement[] {
    this.#blockEnd();
    this.#open.push(ends.join(" or "));
    const body = this.#parseBody(ends);
    this.#open.pop();
    return body;
  }

  #parseStatement(): Statement | undefined {
    const { text, line } = this.expect("name", "a tag's name");
    switch (text) {
      case "if":
        return this.#parseIf(line);
      case "for":
        return this.#parseFor(line);
      case "set":
        return this.#parseSet(line);
      case "with":
        return this.#parseWith(line);
      case "macro":
        return this.#parseMacro(line);
      case "call":
        return this.#parseCall(line);
      case "filter": {
        const filters = this.parseFilters(undefined, true);
        const body = this.#parseInside("endfilter");
        this.next();
        return { type: "filterBlock", filters, body, line };
      }
      case "block": {
        const name = this.expect("name", "the block's name").text;
        const body = this.#parseInside("endblock");
        this.next();
        this.skipName(name);
        return { type: "scope", body, line };
      }
      case "generation": {
        const body = this.#parseInside("endgeneration");
        this.next();
        return { type: "scope", body, line };
      }
      case "print":
        return { type: "output", value: this.parseTuple(), line };
      case "break":
      case "continue":
        if (this.#loops === 0) throw new TemplateError(`'${text}' outside of a loop`, line);
        return { type: text, line };
      case "include":
      case "import":
      case "from":
      case "extends":
        throw new TemplateError(`a chat template cannot read other templates: '${text}'`, line);
    }
    const open = this.#open.at(-1);
    throw new TemplateError(
      `unknown tag '${text}'${open === undefined ? "" : `; the innermost block that is open needs ${open}`}`,
      line,
    );
  }

  #parseIf(line: number): Statement {
    const branches: { test: Expression; body: Statement[] }[] = [];
    let otherwise: Statement[] = [];
    for (;;) {
      const test = this.parseTuple(false);
      branches.push({ test, body: this.#parseInside("elif", "else", "endif") });
      const { text } = this.next();
      if (text === "elif") continue;
      if (text === "else") {
        otherwise = this.#parseInside("endif");
        this.next();
      }
      return { type: "if", branches, otherwise, line };
    }
  }

  #parseFor(line: number): Statement {
    const target = this.parseTarget(false, () => this.isName("in"));
    this.expectName("in");
    const items = this.parseTuple(false, () => this.isName("recursive"));
    const filter = this.skipName("if") ? this.parseExpression() : undefined;
    const recursive = this.skipName("recursive");
    this.#loops++;
    const body = this.#parseInside("endfor", "else");
    this.#loops--;
    let otherwise: Statement[] = [];
    if (this.next().text === "else") {
      otherwise = this.#parseInside("endfor");
      this.next();
    }
    return { type: "for", target, items, filter, recursive, body, otherwise, line };
  }

  #parseSet(line: number): Statement {
    const target = this.parseTarget(true, () => this.isOperator("="));
    if (this.skipOperator("=")) return { type: "set", target, value: this.parseTuple(), line };
    const filters = this.isOperator("|") ? this.parseFilters(undefined) : undefined;
    const body = this.#parseInside("endset");
    this.next();
    return { type: "setBlock", target, filters, body, line };
  }

  #parseWith(line: number): Statement {
    const assignments: { target: Target; value: Expression }[] = [];
    while (this.current.kind !== "block_end") {
      if (assignments.length > 0) this.expectOperator(",");
      // One name each: a comma begins the next assignment.
      const name = this.expect("name", "a name to assign to");
      this.expectOperator("=");
      assignments.push({ target: { type: "name", name: name.text, line: name.line }, value: this.parseExpression() });
    }
    const body = this.#parseInside("endwith");
    this.next();
    return { type: "with", assignments, body, line };
  }

  #parseParameters(): Parameter[] {
    this.expectOperator("(");
    const parameters: Parameter[] = [];
    while (!this.skipOperator(")")) {
      if (parameters.length > 0) this.expectOperator(",");
      const { text, line } = this.expect("name", "a parameter");
      const fallback = this.skipOperator("=") ? this.parseExpression() : undefined;
      if (fallback === undefined && parameters.at(-1)?.fallback !== undefined) {
        throw new TemplateError("non-default argument follows default argument", line);
      }
      parameters.push({ name: text, fallback });
    }
    return parameters;
  }

  #parseMacro(line: number): Statement {
    const name = this.expect("name", "the macro's name").text;
    return { type: "macro", macro: this.#parseMacroBody(name, this.#parseParameters(), "endmacro"), line };
  }

  #parseMacroBody(name: string, parameters: Parameter[], end: string): MacroBody {
    const outer = this.namesRead;
    const loops = this.#loops;
    this.namesRead = new Set();
    this.#loops = 0;
    const body = this.#parseInside(end);
    this.next();
    const reads = this.namesRead;
    this.namesRead = outer;
    this.#loops = loops;
    // A macro inside of this one may read what this one gets.
    for (const read of reads) outer.add(read);
    return { name, parameters, body, reads };
  }

  #parseCall(line: number): Statement {
    const parameters = this.isOperator("(") ? this.#parseParameters() : [];
    const call = this.parseExpression();
    if (call.type !== "call") throw new TemplateError("expected call", line);
    return { type: "callBlock", call, caller: this.#parseMacroBody("caller", parameters, "endcall"), line };
  }
}
