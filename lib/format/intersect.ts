import { choice, type Grammar, type Node, nothing, type Ranges, sequence } from "./nodes.js";
import type { Spend } from "./work.js";

/** Most states of an automaton, of one node or of an intersection. */
const mostStates = 20_000;

/**
 * The texts that all of these nodes match: the product of their automata, made deterministic, so that a text is at one
 * place of it only.
 *
 * @param nodes Nodes that call no rules.
 * @param write What stands in the text for a character of these ranges.
 * @returns A rule for each state, the first one for the whole; undefined where there are more than 20,000.
 */
export function intersect(nodes: readonly Node[], write: (ranges: Ranges) => Node, spend: Spend): Grammar | undefined {
  const automata = nodes.map((node) => new Automaton(node, spend));
  if (automata.some((one) => one.isTooLarge)) return undefined;
  const rules: Node[] = [];
  const numbers = new Map<string, number>();
  const open: Places[] = [];
  const number = (places: Places): number => {
    const key = places.join(";");
    const known = numbers.get(key);
    if (known !== undefined) return known;
    numbers.set(key, open.push(places) - 1);
    return open.length - 1;
  };
  number(automata.map((one) => one.start()));
  for (let next = 0; next < open.length; next++) {
    if (open.length > mostStates) return undefined;
    const places = open[next] as Places;
    const rangesByState = new Map<number, [number, number][]>();
    for (const [first, last] of pieces(
      automata.flatMap((one, i) => one.rangesFrom(places[i] ?? [])),
      spend,
    )) {
      const to = automata.map((one, i) => one.step(places[i] ?? [], first));
      if (to.some((set) => set.length === 0)) continue;
      const state = number(to);
      const ranges = rangesByState.get(state);
      if (ranges === undefined) rangesByState.set(state, [[first, last]]);
      else ranges.push([first, last]);
    }
    const isEnd = automata.every((one, i) => one.isEnd(places[i] ?? []));
    const steps = [...rangesByState].map(([index, ranges]) => sequence(write(ranges), { kind: "rule", index }));
    rules.push(choice(...(isEnd ? [nothing] : []), ...steps));
  }
  return rules;
}

/** Whether a node that calls no rules matches a text. Takes time in proportion to both; false for nodes of too many states. */
export function matches(node: Node, text: string, spend: Spend): boolean {
  const automaton = new Automaton(node, spend);
  const places = [...text].reduce(
    (states, one) => automaton.step(states, one.codePointAt(0) as number),
    automaton.start(),
  );
  return !automaton.isTooLarge && automaton.isEnd(places);
}

/** Of each automaton the states that a text may be in, ascending. */
type Places = readonly (readonly number[])[];

/** The pieces between all ends of ranges that lie in one of them at least. */
function pieces(ranges: Ranges, spend: Spend): [number, number][] {
  spend(ranges.length ** 2 / 10);
  const cuts = [...new Set(ranges.flatMap(([first, last]) => [first, last + 1]))].sort((a, b) => a - b);
  return cuts
    .slice(1)
    .map((cut, i): [number, number] => [cuts[i] as number, cut - 1])
    .filter(([first]) => ranges.some(([from, to]) => from <= first && first <= to));
}

/** Over code points, with edges that take none (Thompson's construction). */
class Automaton {
  readonly #edges: { ranges: Ranges; to: number }[][] = [];
  readonly #empty: number[][] = [];
  readonly #end: number;
  isTooLarge = false;

  constructor(
    node: Node,
    readonly spend: Spend,
  ) {
    this.#end = this.#add(node, this.#state());
  }

  start(): readonly number[] {
    return this.#close([0]);
  }

  isEnd(states: readonly number[]): boolean {
    return states.includes(this.#end);
  }

  rangesFrom(states: readonly number[]): Ranges {
    return states.flatMap((state) => (this.#edges[state] ?? []).flatMap(({ ranges }) => ranges));
  }

  step(states: readonly number[], code: number): readonly number[] {
    const isWithin = ({ ranges }: { ranges: Ranges }) => ranges.some(([first, last]) => first <= code && code <= last);
    return this.#close(states.flatMap((state) => (this.#edges[state] ?? []).filter(isWithin).map(({ to }) => to)));
  }

  #state(): number {
    this.spend(1);
    this.#edges.push([]);
    this.isTooLarge ||= this.#edges.length > mostStates;
    return this.#empty.push([]) - 1;
  }

  #close(states: readonly number[]): readonly number[] {
    const seen = new Set(states);
    // A set is read on while it grows.
    for (const state of seen) {
      this.spend(1);
      for (const to of this.#empty[state] ?? []) seen.add(to);
    }
    return [...seen].sort((a, b) => a - b);
  }

  /** Adds a node behind a state; the state behind it. */
  #add(node: Node, from: number): number {
    if (this.isTooLarge) return from;
    switch (node.kind) {
      case "text":
        return [...node.text].reduce((state, one) => {
          const code = one.codePointAt(0) as number;
          return this.#edge(state, [[code, code]]);
        }, from);
      case "class":
        return this.#edge(from, node.ranges);
      case "sequence":
        return node.parts.reduce((state, part) => this.#add(part, state), from);
      case "choice": {
        const to = this.#state();
        for (const part of node.parts) {
          const begin = this.#state();
          this.#empty[from]?.push(begin);
          this.#empty[this.#add(part, begin)]?.push(to);
        }
        return to;
      }
      case "repeat":
        return this.#repeat(node, from);
      default:
        throw new Error("a node that calls rules cannot be intersected");
    }
  }

  #edge(from: number, ranges: Ranges): number {
    const to = this.#state();
    this.#edges[from]?.push({ ranges, to });
    return to;
  }

  #repeat({ least, most, body }: Extract<Node, { kind: "repeat" }>, from: number): number {
    let state = from;
    const end = this.#state();
    for (let i = 0; i < (most < 0 ? least + 1 : most) && !this.isTooLarge; i++) {
      const begin = this.#state();
      this.#empty[state]?.push(begin);
      if (i >= least) this.#empty[begin]?.push(end);
      state = this.#add(body, begin);
      if (most < 0 && i === least) {
        this.#empty[state]?.push(begin);
        return end;
      }
    }
    this.#empty[state]?.push(end);
    return end;
  }
}
