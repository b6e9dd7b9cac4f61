import { classPattern, type Node, parsePattern } from "./pattern_parser.js";

type Instruction =
  | { op: "class"; accepts: CharacterTest }
  /** Greedy repeat of one class, the usual case. */
  | { op: "run"; accepts: CharacterTest; least: number; most: number }
  | { op: "split"; first: number; second: number }
  | { op: "jump"; to: number }
  | { op: "look"; body: number; next: number; behind: number[] | undefined; negated: boolean }
  | { op: "atomic"; body: number; next: number }
  | { op: "place"; holds: (text: string, place: number) => boolean }
  | { op: "match" };

/** Programs of more instructions are refused. */
const mostInstructions = 20_000;
/** Steps for each character of a text: what nearly every pattern stays far below. */
const stepsPerCharacter = 2000;

/**
 * A regular expression of a tokenizer.json. It is a program of a stranger, and JavaScript's engine may take exponential time
 * for one; this one remembers where a state has failed (there are no references to groups, so it fails there again), which
 * makes the time linear in the text, but for lookaround that reads far, which a limit on steps ends.
 */
export class Pattern {
  readonly #program: Instruction[] = [];

  /** @throws Error for what is not understood. */
  constructor(source: string) {
    this.#compile(parsePattern(source));
    this.#add({ op: "match" });
  }

  /** Matches from left to right that do not overlap. */
  *matches(text: string): IterableIterator<{ start: number; end: number }> {
    const search = new Search(this.#program, text);
    let from = 0;
    while (from <= text.length) {
      const found = search.find(from);
      if (found === undefined) return;
      yield found;
      from = found.end > found.start ? found.end : found.end + characterLength(text, found.end);
    }
  }

  #add(instruction: Instruction): number {
    if (this.#program.length >= mostInstructions) throw new Error("a pattern is too large");
    return this.#program.push(instruction) - 1;
  }

  #compile(node: Node): void {
    switch (node.type) {
      case "class":
        this.#add({ op: "class", accepts: characterTest(node.source) });
        return;
      case "sequence":
        for (const part of node.parts) this.#compile(part);
        return;
      case "choice":
        this.#compileChoice(node.parts);
        return;
      case "repeat":
        this.#compileRepeat(node);
        return;
      case "look":
      case "atomic":
        this.#compileInner(node);
        return;
      case "place":
        this.#add({ op: "place", holds: places[node.place] });
    }
  }

  #compileChoice(parts: Node[]): void {
    const jumps: { op: "jump"; to: number }[] = [];
    for (const [i, part] of parts.entries()) {
      if (i === parts.length - 1) {
        this.#compile(part);
        break;
      }
      const split = { op: "split" as const, first: this.#program.length + 1, second: 0 };
      this.#add(split);
      this.#compile(part);
      const jump = { op: "jump" as const, to: 0 };
      jumps.push(jump);
      this.#add(jump);
      split.second = this.#program.length;
    }
    for (const jump of jumps) jump.to = this.#program.length;
  }

  #compileRepeat(node: Node & { type: "repeat" }): void {
    const { body, least, most, kind } = node;
    if (kind === "possessive") {
      this.#compileInner({ type: "atomic", body: { ...node, kind: "greedy" } });
      return;
    }
    if (body.type === "class" && kind === "greedy") {
      this.#add({ op: "run", accepts: characterTest(body.source), least, most });
      return;
    }
    for (let i = 0; i < least; i++) this.#compile(body);
    const split = (): { op: "split"; first: number; second: number } => {
      const instruction = { op: "split" as const, first: 0, second: 0 };
      this.#add(instruction);
      return instruction;
    };
    const aim = (instruction: { first: number; second: number }, inside: number, outside: number): void => {
      instruction.first = kind === "lazy" ? outside : inside;
      instruction.second = kind === "lazy" ? inside : outside;
    };
    if (most === Number.POSITIVE_INFINITY) {
      const start = this.#program.length;
      const loop = split();
      this.#compile(body);
      this.#add({ op: "jump", to: start });
      aim(loop, start + 1, this.#program.length);
      return;
    }
    const splits: { instruction: { first: number; second: number }; inside: number }[] = [];
    for (let i = least; i < most; i++) {
      const instruction = split();
      splits.push({ instruction, inside: this.#program.length });
      this.#compile(body);
    }
    for (const { instruction, inside } of splits) aim(instruction, inside, this.#program.length);
  }

  #compileInner(node: Node & { type: "look" | "atomic" }): void {
    const instruction: Instruction =
      node.type === "atomic"
        ? { op: "atomic", body: 0, next: 0 }
        : {
            op: "look",
            body: 0,
            next: 0,
            negated: node.negated,
            behind: node.behind ? lengthsOf(node.body) : undefined,
          };
    this.#add(instruction);
    instruction.body = this.#program.length;
    this.#compile(node.body);
    this.#add({ op: "match" });
    instruction.next = this.#program.length;
  }
}

/** The lengths, in characters, that what is looked for behind a place may have. */
function lengthsOf(node: Node): number[] {
  switch (node.type) {
    case "class":
      return [1];
    case "place":
    case "look":
      return [0];
    case "atomic":
      return lengthsOf(node.body);
    case "choice":
      return [...new Set(node.parts.flatMap(lengthsOf))];
    case "sequence":
      return node.parts.map(lengthsOf).reduce(sums, [0]);
    case "repeat": {
      if (node.most > 16) throw new Error("lookbehind of unlimited length is not supported");
      const once = lengthsOf(node.body);
      const all = new Set<number>();
      let lengths = [0];
      for (let i = 0; i <= node.most; i++) {
        if (i >= node.least) for (const length of lengths) all.add(length);
        lengths = sums(lengths, once);
      }
      return [...all];
    }
  }
}

function sums(left: number[], right: number[]): number[] {
  return [...new Set(left.flatMap((a) => right.map((b) => a + b)))];
}

const blockBits = 12;
const blockPlaces = 2 ** blockBits;

class Search {
  readonly #program: readonly Instruction[];
  readonly #text: string;
  readonly #words: number;
  /**
   * A bit for each place and instruction: the state has been entered and, but for the path of a match, failed. In blocks of
   * places, so that a long text needs memory for the part that is being looked at only.
   */
  readonly #entered: (Uint32Array | undefined)[] = [];
  /**
   * By the instruction behind an unlimited run: where the last run was, and down to which place, from its end, the states
   * behind it have been entered.
   */
  readonly #runs: ({ start: number; end: number; down: number } | undefined)[] = [];
  #steps: number;

  constructor(program: readonly Instruction[], text: string) {
    this.#program = program;
    this.#text = text;
    this.#words = Math.ceil(program.length / 32);
    this.#steps = 1e6 + stepsPerCharacter * text.length;
  }

  find(from: number): { start: number; end: number } | undefined {
    for (let start = from; start <= this.#text.length; start += characterLength(this.#text, start)) {
      const end = this.#run(0, start, undefined);
      if (end === undefined) continue;
      // The path of this match passed here and did not fail.
      this.#forgetTried();
      const row = (end & (blockPlaces - 1)) * this.#words;
      this.#entered[end >> blockBits]?.fill(0, row, row + this.#words);
      for (let block = start >> blockBits; block < end >> blockBits; block++) this.#entered[block] = undefined;
      return { start, end };
    }
    return undefined;
  }

  /** @param trail Where the states of an inner run are written, to be forgotten: what succeeded may succeed again. */
  #run(entry: number, start: number, trail: number[] | undefined): number | undefined {
    const text = this.#text;
    const program = this.#program;
    // Instruction, place, and the least place for a run that may give back.
    const stack: number[] = [entry, start, -1];
    while (stack.length > 0) {
      const least = stack.pop() as number;
      let place = stack.pop() as number;
      let at = stack.pop() as number;
      if (least >= 0) {
        // A run that gives back: places that another run at this instruction has tried need no second look.
        const tried = this.#runs[at];
        if (tried !== undefined && place >= tried.down && place <= tried.end) {
          if (tried.down <= least) continue;
          place = tried.down - precedingLength(text, tried.down);
        }
        if (tried !== undefined && (place + characterLength(text, place) === tried.down || place === tried.end)) {
          tried.down = place;
        }
        if (place > least) stack.push(at, place - precedingLength(text, place), least);
      }
      for (;;) {
        if (--this.#steps < 0) throw new Error("a pattern of the tokenizer takes too many steps for this text");
        if (!this.#enter(at, place)) break;
        trail?.push(at, place);
        const instruction = program[at] as Instruction;
        if (instruction.op === "match") return place;
        if (instruction.op === "class") {
          const code = text.codePointAt(place);
          if (code === undefined || !instruction.accepts(code)) break;
          place += code > 0xffff ? 2 : 1;
          at++;
        } else if (instruction.op === "run") {
          const end = this.#endOfRun(at, place, instruction);
          let low = place;
          for (let i = 0; i < instruction.least && low >= 0; i++) {
            low = low < end ? low + characterLength(text, low) : -1;
          }
          if (low >= 0) stack.push(at + 1, end, low);
          break;
        } else if (instruction.op === "split") {
          stack.push(instruction.second, place, -1);
          at = instruction.first;
        } else if (instruction.op === "jump") {
          at = instruction.to;
        } else if (instruction.op === "place") {
          if (!instruction.holds(text, place)) break;
          at++;
        } else if (instruction.op === "atomic") {
          const end = this.#runInner(instruction.body, place);
          if (end === undefined) break;
          place = end;
          at = instruction.next;
        } else {
          if (this.#look(instruction, place) === instruction.negated) break;
          at = instruction.next;
        }
      }
    }
    return undefined;
  }

  /** The end of the greedy run of a class from a place. */
  #endOfRun(at: number, place: number, { accepts, most }: Instruction & { op: "run" }): number {
    const text = this.#text;
    const known = this.#runs[at + 1];
    if (known !== undefined && known.start <= place && place <= known.end) return known.end;
    const isUnlimited = most === Number.POSITIVE_INFINITY;
    let end = place;
    let count = 0;
    for (; count < most; count++) {
      if (isUnlimited && end === known?.start) {
        // The run that is known goes on from here.
        known.start = place;
        return known.end;
      }
      const code = text.codePointAt(end);
      if (code === undefined || !accepts(code)) break;
      end += code > 0xffff ? 2 : 1;
    }
    this.#steps -= count >> 2;
    if (isUnlimited) this.#runs[at + 1] = { start: place, end, down: Number.POSITIVE_INFINITY };
    return end;
  }

  /** Forgets what runs have tried: some of it succeeded. */
  #forgetTried(): void {
    for (const run of this.#runs) if (run !== undefined) run.down = Number.POSITIVE_INFINITY;
  }

  /** False where the state has been entered before. */
  #enter(at: number, place: number): boolean {
    let block = this.#entered[place >> blockBits];
    if (block === undefined) {
      block = new Uint32Array(this.#words * Math.min(blockPlaces, this.#text.length + 1));
      this.#entered[place >> blockBits] = block;
    }
    const word = (place & (blockPlaces - 1)) * this.#words + (at >> 5);
    const marked = block[word] as number;
    const bit = 1 << (at & 31);
    block[word] = marked | bit;
    return (marked & bit) === 0;
  }

  #forget(at: number, place: number): void {
    const block = this.#entered[place >> blockBits];
    const word = (place & (blockPlaces - 1)) * this.#words + (at >> 5);
    if (block !== undefined) block[word] = (block[word] as number) & ~(1 << (at & 31));
  }

  #runInner(body: number, place: number): number | undefined {
    const trail: number[] = [];
    const end = this.#run(body, place, trail);
    if (end !== undefined) this.#forgetTried();
    // What failed fails again; only a run that succeeded must be forgotten.
    for (let i = 0; end !== undefined && i < trail.length; i += 2)
      this.#forget(trail[i] as number, trail[i + 1] as number);
    this.#steps -= trail.length;
    return end;
  }

  #look({ body, behind }: Instruction & { op: "look" }, place: number): boolean {
    if (behind === undefined) return this.#runInner(body, place) !== undefined;
    return behind.some((length) => {
      let start = place;
      for (let i = 0; i < length; i++) {
        if (start === 0) return false;
        start -= precedingLength(this.#text, start);
      }
      return this.#runInner(body, start) === place;
    });
  }
}

function characterLength(text: string, place: number): number {
  const code = text.codePointAt(place);
  return code !== undefined && code > 0xffff ? 2 : 1;
}

function precedingLength(text: string, place: number): number {
  return place >= 2 && (text.codePointAt(place - 2) as number) > 0xffff ? 2 : 1;
}

type CharacterTest = (code: number) => boolean;
const tests = new Map<string, CharacterTest>();

/** A test of a class, with a table of what it has been asked. */
function characterTest(source: string): CharacterTest {
  const known = tests.get(source);
  if (known !== undefined) return known;
  const pattern = classPattern(source);
  /** 0: not asked yet, 1: no, 2: yes. */
  const answers = new Uint8Array(0x10000);
  const test = (code: number): boolean => {
    if (code > 0xffff) return pattern.test(String.fromCodePoint(code));
    const answer = answers[code];
    if (answer !== 0) return answer === 2;
    const accepted = pattern.test(String.fromCharCode(code));
    answers[code] = accepted ? 2 : 1;
    return accepted;
  };
  // Patterns of strangers may have any number of classes: what is kept is bounded.
  if (tests.size >= 256) tests.clear();
  tests.set(source, test);
  return test;
}

const isWord = characterTest("\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\u200c\\u200d");

export function wordAt(text: string, place: number): boolean {
  const code = place < 0 ? undefined : text.codePointAt(place);
  return code !== undefined && isWord(code);
}

/** Whether a word begins or ends at a place. */
function isWordEdge(text: string, place: number): boolean {
  return wordAt(text, place === 0 ? -1 : place - precedingLength(text, place)) !== wordAt(text, place);
}

const places = {
  start: (_: string, place: number) => place === 0,
  end: (text: string, place: number) => place === text.length,
  lineStart: (text: string, place: number) => place === 0 || text[place - 1] === "\n",
  lineEnd: (text: string, place: number) => place === text.length || text[place] === "\n",
  word: isWordEdge,
  notWord: (text: string, place: number) => !isWordEdge(text, place),
};
