import { type Budget, TemplateError } from "./budget.js";
import { order } from "./operators.js";
import { Dict, Float, floatText, Tuple, typeName, type Value } from "./values.js";

export interface JsonStyle {
  ensureAscii: boolean;
  /** What one level is indented by; undefined: all on one line. */
  indent: string | undefined;
  itemSeparator: string;
  keySeparator: string;
  sortKeys: boolean;
}

/** Python's json.dumps, as transformers gives it to templates: without HTML escapes. */
export function toJson(value: Value, style: JsonStyle, budget: Budget, level = 0): string {
  budget.step();
  if (level > 200) throw new TemplateError("a value nests more than 200 levels");
  if (value === null) return "null";
  if (typeof value === "boolean" || typeof value === "number") return String(value);
  if (typeof value === "string") return quote(value, style, budget);
  if (value instanceof Float) return jsonFloat(value.value);
  const items = Array.isArray(value) ? value : value instanceof Tuple ? value.items : undefined;
  if (items !== undefined) {
    return enclose(
      "[",
      items.map((item) => toJson(item, style, budget, level + 1)),
      "]",
      style,
      level,
    );
  }
  if (value instanceof Dict) {
    const entries = value.entries();
    if (style.sortKeys) entries.sort(([a], [b]) => order(a, b));
    const fields = entries.map(
      ([key, item]) => quote(keyText(key), style, budget) + style.keySeparator + toJson(item, style, budget, level + 1),
    );
    return enclose("{", fields, "}", style, level);
  }
  throw new TemplateError(`Object of type ${typeName(value)} is not JSON serializable`);
}

function keyText(key: Value): string {
  if (typeof key === "string") return key;
  if (key === null) return "null";
  if (typeof key === "boolean" || typeof key === "number") return String(key);
  if (key instanceof Float) return jsonFloat(key.value);
  throw new TemplateError(`keys must be str, int, float, bool or None, not ${typeName(key)}`);
}

function jsonFloat(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  return Number.isFinite(value) ? floatText(value) : value > 0 ? "Infinity" : "-Infinity";
}

function quote(text: string, { ensureAscii }: JsonStyle, budget: Budget): string {
  budget.text(text.length);
  const quoted = JSON.stringify(text);
  if (!ensureAscii) return quoted;
  return quoted.replace(/[^\p{ASCII}]/gu, (character) =>
    // Two escapes for a character beyond U+FFFF.
    character.replace(/[\s\S]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`),
  );
}

function enclose(open: string, items: string[], close: string, style: JsonStyle, level: number): string {
  if (items.length === 0 || style.indent === undefined) return open + items.join(style.itemSeparator) + close;
  const line = `\n${style.indent.repeat(level + 1)}`;
  return `${open}${line}${items.join(style.itemSeparator + line)}\n${style.indent.repeat(level)}${close}`;
}
