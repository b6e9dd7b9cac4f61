import { intersect } from "./intersect.js";
import { inString } from "./json.js";
import { characters, type Grammar, type Node, repeat } from "./nodes.js";
import { parsePattern } from "./pattern.js";
import { readCount, refuse, type Schema } from "./schema_keywords.js";
import { formatNode, knownFormats } from "./string_formats.js";
import type { Spend } from "./work.js";

const anyCharacter = characters([[0, 0x10ffff]]);

/** The keywords that restrict a text, as what each lets through; texts as they are, not as JSON spells them. */
export function textNodes(schema: Schema, path: string): Node[] {
  const nodes: Node[] = [];
  const { pattern, format } = schema;
  if (pattern !== undefined) {
    if (typeof pattern !== "string") throw refuse(path, "pattern", "expected a text");
    nodes.push(parsePattern(pattern, `The schema's ${path}/pattern`, true));
  }
  if (format !== undefined) {
    if (typeof format !== "string") throw refuse(path, "format", "expected a text");
    const node = formatNode(format);
    if (node === undefined) {
      throw refuse(path, "format", `${JSON.stringify(format)} is none of ${knownFormats.join(", ")}`);
    }
    nodes.push(node);
  }
  const [least, most] = readLengths(schema, path);
  if (least > 0 || most >= 0) nodes.push(repeat(least, most, anyCharacter));
  return nodes;
}

/** Least and most characters; -1: any number. Their order is not checked. */
export function readLengths(schema: Schema, path: string): [least: number, most: number] {
  return [readCount(schema, "minLength", path, 0), readCount(schema, "maxLength", path, -1)];
}

/**
 * What stands between the quotes of a string whose text all of these match.
 *
 * @param nodes One at least.
 * @throws ShardspeedError ERR_INVALID_ARGUMENT where they cannot be put together.
 */
export function stringBody(
  nodes: readonly Node[],
  path: string,
  keyword: string,
  add: (grammar: Grammar) => Node,
  spend: Spend,
): Node {
  const [only] = nodes;
  if (only !== undefined && nodes.length === 1) return inString(only);
  const product = intersect(nodes, (ranges) => inString(characters(ranges)), spend);
  if (product === undefined) throw refuse(path, keyword, "beside the other keywords it takes too many states");
  return add(product);
}
