/** First and last code points of ranges, ascending and apart. */
export type Ranges = readonly (readonly [first: number, last: number])[];

/** A part of a grammar: a tree for each rule. */
export type Node =
  | { kind: "text"; text: string }
  | { kind: "class"; ranges: Ranges }
  | { kind: "sequence" | "choice"; parts: readonly Node[] }
  /** `most` of -1: any number. */
  | { kind: "repeat"; least: number; most: number; body: Node }
  | { kind: "rule"; index: number };

/** Rule 0 is the whole text. */
export type Grammar = readonly Node[];

/** Adds a rule to a grammar and gives the node that calls it. Its body may call it too. */
export type AddRule = (make: (self: Node) => Node) => Node;

export const text = (value: string): Node => ({ kind: "text", text: value });
export const characters = (ranges: Ranges): Node => ({ kind: "class", ranges });
export const sequence = (...parts: Node[]): Node => ({ kind: "sequence", parts });
export const choice = (...parts: Node[]): Node => ({ kind: "choice", parts });
export const repeat = (least: number, most: number, body: Node): Node => ({ kind: "repeat", least, most, body });
export const optional = (body: Node): Node => repeat(0, 1, body);
export const nothing: Node = sequence();
export const impossible: Node = choice();
export const digit = characters([[0x30, 0x39]]);

/** The same node in a grammar where its rules stand so many places later. */
export function shiftRules(node: Node, by: number): Node {
  switch (node.kind) {
    case "rule":
      return { kind: "rule", index: node.index + by };
    case "repeat":
      return { ...node, body: shiftRules(node.body, by) };
    case "sequence":
    case "choice":
      return { kind: node.kind, parts: node.parts.map((part) => shiftRules(part, by)) };
    default:
      return node;
  }
}

/** How deep alternatives that share a beginning are nested; behind it they stand side by side. */
const deepestSharing = 60;

/** One of these texts. Those that begin alike share the nodes of it, so that few alternatives are open at once. */
export function oneOf(texts: readonly string[]): Node {
  return shareBeginnings([...new Set(texts)].sort(), 0, 0);
}

/** @param texts Sorted, different, and alike up to `from`. */
function shareBeginnings(texts: readonly string[], from: number, depth: number): Node {
  const [only] = texts;
  if (only !== undefined && texts.length === 1) return text(only.slice(from));
  if (depth === deepestSharing) return choice(...texts.map((one) => text(one.slice(from))));
  const parts: Node[] = [];
  for (let first = 0; first < texts.length; ) {
    const one = texts[first] as string;
    const next = String.fromCodePoint(one.codePointAt(from) ?? 0);
    let behind = first + 1;
    while (from < one.length && behind < texts.length && texts[behind]?.startsWith(next, from)) behind++;
    const group = texts.slice(first, behind);
    const shared = from + sharedLength(one, group.at(-1) as string, from);
    const rest = shareBeginnings(group, shared, depth + 1);
    parts.push(group.length === 1 ? text(one.slice(from)) : sequence(text(one.slice(from, shared)), rest));
    first = behind;
  }
  return choice(...parts);
}

/** Of the first and last of sorted texts, all between them share it. Never within a surrogate pair. */
function sharedLength(first: string, last: string, from: number): number {
  let length = 0;
  while (from + length < first.length && first[from + length] === last[from + length]) length++;
  const isSplit = /[\ud800-\udbff]/.test(first[from + length - 1] ?? "");
  return isSplit && length > 0 ? length - 1 : length;
}

/** The numbers in which the native side takes a grammar (src/grammar/grammar.h). */
export function encodeGrammar(grammar: Grammar): Int32Array {
  const numbers: number[] = [];
  for (const rule of grammar) encodeNode(rule, numbers);
  return Int32Array.from(numbers);
}

function encodeNode(node: Node, numbers: number[]): void {
  switch (node.kind) {
    case "text": {
      const bytes = new TextEncoder().encode(node.text);
      numbers.push(0, bytes.length);
      for (const byte of bytes) numbers.push(byte);
      return;
    }
    case "class":
      numbers.push(1, node.ranges.length);
      for (const range of node.ranges) numbers.push(...range);
      return;
    case "repeat":
      numbers.push(4, node.least, node.most);
      encodeNode(node.body, numbers);
      return;
    case "rule":
      numbers.push(5, node.index);
      return;
    default:
      numbers.push(node.kind === "sequence" ? 2 : 3, node.parts.length);
      for (const part of node.parts) encodeNode(part, numbers);
  }
}

/** In order, joined where they touch. */
export function normalize(ranges: Ranges): Ranges {
  const joined: [number, number][] = [];
  for (const [first, last] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const before = joined.at(-1);
    if (before !== undefined && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else joined.push([first, last]);
  }
  return joined;
}

/** All code points that are in none of the ranges. */
export function complement(ranges: Ranges): Ranges {
  const others: [number, number][] = [];
  let next = 0;
  for (const [first, last] of normalize(ranges)) {
    if (first > next) others.push([next, first - 1]);
    next = last + 1;
  }
  if (next <= 0x10ffff) others.push([next, 0x10ffff]);
  return others;
}

/** The code points of `ranges` that are not among `others`. */
export function subtract(ranges: Ranges, others: Ranges): Ranges {
  return complement([...complement(ranges), ...others]);
}
