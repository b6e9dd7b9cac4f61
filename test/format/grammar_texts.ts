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

/** Whether a text is one of the grammar, by all the places where each node may end that begins somewhere. */
export function isText(rules: readonly Node[], text: string): boolean {
  const codes = [...text].map((one) => one.codePointAt(0) as number);
  const known = new Map<Node, Map<number, Set<number>>>();
  const ends = (node: Node, from: number): Set<number> => {
    const byStart = known.get(node) ?? new Map<number, Set<number>>();
    known.set(node, byStart);
    // A rule that calls itself does so behind a character at least: that call begins elsewhere.
    const found = byStart.get(from) ?? find(node, from);
    byStart.set(from, found);
    return found;
  };
  const behind = (node: Node, starts: Set<number>) => new Set([...starts].flatMap((start) => [...ends(node, start)]));
  const find = (node: Node, from: number): Set<number> => {
    switch (node.kind) {
      case "text": {
        const own = [...node.text].map((one) => one.codePointAt(0));
        return new Set(own.every((code, i) => code === codes[from + i]) ? [from + own.length] : []);
      }
      case "class": {
        const code = codes[from] ?? -1;
        return new Set(node.ranges.some(([first, last]) => first <= code && code <= last) ? [from + 1] : []);
      }
      case "sequence":
        return node.parts.reduce((starts, part) => behind(part, starts), new Set([from]));
      case "choice":
        return new Set(node.parts.flatMap((part) => [...ends(part, from)]));
      case "repeat": {
        let starts = new Set([from]);
        for (let i = 0; i < node.least; i++) starts = behind(node.body, starts);
        const all = new Set(starts);
        for (let i = node.least; i !== node.most && starts.size > 0; i++) {
          starts = new Set([...behind(node.body, starts)].filter((one) => !all.has(one)));
          for (const one of starts) all.add(one);
        }
        return all;
      }
      default:
        return ends(rules[node.index] as Node, from);
    }
  };
  return ends(rules[0] as Node, 0).has(codes.length);
}
