import type { Node } from "../../dist/format/nodes.js";

/** Chooses an index below `count`. */
export type Choose = (count: number) => number;

/**
 * A random text of a grammar. Behind so many calls of rules, only the shortest ways are taken.
 *
 * @param most Most repeats behind the least number.
 */
export function randomText(rules: readonly Node[], choose: Choose, most = 2): string {
  const heights = findHeights(rules);
  const height = (node: Node) => heightOf(node, heights);
  const write = (node: Node, depth: number): string => {
    switch (node.kind) {
      case "text":
        return node.text;
      case "class": {
        const range = node.ranges[choose(node.ranges.length)];
        if (range === undefined) throw new Error("a class of nothing was reached");
        return String.fromCodePoint(range[0] + choose(Math.min(range[1] - range[0] + 1, 50)));
      }
      case "sequence":
        return node.parts.map((part) => write(part, depth)).join("");
      case "choice": {
        const lowest = Math.min(...node.parts.map(height));
        const possible = node.parts.filter((part) => (depth > 8 ? height(part) === lowest : height(part) < Infinity));
        return write(possible[choose(possible.length)] as Node, depth);
      }
      case "repeat": {
        const extra = depth > 8 || height(node.body) === Infinity ? 0 : node.most < 0 ? most : node.most - node.least;
        const count = node.least + choose(Math.min(extra, most) + 1);
        return Array.from({ length: count }, () => write(node.body, depth)).join("");
      }
      default:
        return write(rules[node.index] as Node, depth + 1);
    }
  };
  return write(rules[0] as Node, 0);
}

/** How many rules stand within one another at least until a rule ends; infinite where it never does. */
export function findHeights(rules: readonly Node[]): number[] {
  const heights = rules.map(() => Infinity);
  for (let changed = true; changed; ) {
    changed = false;
    for (const [i, rule] of rules.entries()) {
      const found = heightOf(rule, heights);
      if (found < (heights[i] as number)) {
        heights[i] = found;
        changed = true;
      }
    }
  }
  return heights;
}

function heightOf(node: Node, heights: readonly number[]): number {
  switch (node.kind) {
    case "text":
      return 0;
    case "class":
      return node.ranges.length > 0 ? 0 : Infinity;
    case "sequence":
      return Math.max(0, ...node.parts.map((part) => heightOf(part, heights)));
    case "choice":
      return Math.min(...node.parts.map((part) => heightOf(part, heights)));
    case "repeat":
      return node.least === 0 ? 0 : heightOf(node.body, heights);
    default:
      return 1 + (heights[node.index] as number);
  }
}

/** Whether a text is one of the grammar: as the regular expression of its nodes where nothing calls itself. */
export function isText(rules: readonly Node[], text: string): boolean {
  const source = (node: Node): string => {
    switch (node.kind) {
      case "text":
        return node.text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
      case "class":
        return `[${node.ranges.map((range) => range.map((code) => `\\u{${code.toString(16)}}`).join("-")).join("")}]`;
      case "sequence":
        return `(?:${node.parts.map(source).join("")})`;
      case "choice":
        return node.parts.length === 0 ? "[]" : `(?:${node.parts.map(source).join("|")})`;
      case "repeat":
        return `(?:${source(node.body)}){${node.least},${node.most < 0 ? "" : node.most}}`;
      default:
        return source(rules[node.index] as Node);
    }
  };
  return new RegExp(`^${source(rules[0] as Node)}$`, "u").test(text);
}
