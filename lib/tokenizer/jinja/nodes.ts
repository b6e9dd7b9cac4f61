import type { Value } from "./values.js";

/** An argument list: `f(a, *b, c=d, **e)`. */
export interface CallArguments {
  positional: Expression[];
  named: { name: string; value: Expression }[];
  spread: Expression | undefined;
  spreadNamed: Expression | undefined;
}

export type Expression = { line: number } & (
  | { type: "constant"; value: Value }
  | { type: "name"; name: string }
  | { type: "list" | "tuple"; items: Expression[] }
  | { type: "dict"; entries: { key: Expression; value: Expression }[] }
  | { type: "attribute"; object: Expression; name: string }
  | { type: "item"; object: Expression; key: Expression }
  | { type: "slice"; start: Expression | undefined; stop: Expression | undefined; step: Expression | undefined }
  | { type: "call"; callee: Expression; arguments: CallArguments }
  | { type: "filter"; operand: Expression | undefined; name: string; arguments: CallArguments }
  | { type: "test"; operand: Expression; name: string; arguments: CallArguments; negated: boolean }
  | { type: "unary"; operator: "-" | "+" | "not"; operand: Expression }
  | { type: "binary"; operator: BinaryOperator; left: Expression; right: Expression }
  | { type: "and" | "or"; left: Expression; right: Expression }
  | { type: "concat"; parts: Expression[] }
  | { type: "compare"; first: Expression; rest: { operator: CompareOperator; operand: Expression }[] }
  | { type: "condition"; test: Expression; then: Expression; otherwise: Expression | undefined }
);

export type BinaryOperator = "+" | "-" | "*" | "/" | "//" | "%" | "**";
export type CompareOperator = "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "not in";

/** What may stand left of `=` and behind `for`. */
export type Target = { line: number } & (
  | { type: "name"; name: string }
  | { type: "field"; object: string; name: string }
  | { type: "targets"; targets: Target[] }
);

export interface Parameter {
  name: string;
  fallback: Expression | undefined;
}

export interface MacroBody {
  name: string;
  parameters: Parameter[];
  body: Statement[];
  /** Which of `varargs`, `kwargs` and `caller` the body reads: others are errors of the caller. */
  reads: ReadonlySet<string>;
}

export type Statement = { line: number } & (
  | { type: "text"; text: string }
  | { type: "output"; value: Expression }
  | { type: "if"; branches: { test: Expression; body: Statement[] }[]; otherwise: Statement[] }
  | {
      type: "for";
      target: Target;
      items: Expression;
      filter: Expression | undefined;
      recursive: boolean;
      body: Statement[];
      otherwise: Statement[];
    }
  | { type: "break" | "continue" }
  | { type: "set"; target: Target; value: Expression }
  | { type: "setBlock"; target: Target; filters: Expression | undefined; body: Statement[] }
  | { type: "with"; assignments: { target: Target; value: Expression }[]; body: Statement[] }
  | { type: "macro"; macro: MacroBody }
  | { type: "callBlock"; call: Expression; caller: MacroBody }
  | { type: "filterBlock"; filters: Expression; body: Statement[] }
  | { type: "scope"; body: Statement[] }
);
