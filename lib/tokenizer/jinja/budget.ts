/** A template that cannot be parsed, fails or is stopped. The line is of its source, from 1. */
export class TemplateError extends Error {
  line: number | undefined;

  constructor(message: string, line?: number) {
    super(message);
    this.name = "TemplateError";
    this.line = line;
  }
}

/** What one rendering may cost. Templates come with models: they are programs of strangers. */
export interface Limits {
  /** Expressions evaluated, statements run, loop passes, and a share for the text that filters and methods make. */
  steps: number;
  /** UTF-16 units of the output, and of any text on the way. */
  textLength: number;
  /** Macros, recursive loops and expressions inside each other. */
  depth: number;
  milliseconds: number;
}

/** A conversation of 10,000 messages takes about a million steps; ten million take a second or two. */
export const defaultLimits: Limits = { steps: 10_000_000, textLength: 2 ** 25, depth: 200, milliseconds: 10_000 };

/** Text of this many units counts as one step. */
const unitsPerStep = 16;
const stepsBetweenLooksAtTheClock = 8192;

/**
 * The budget of the rendering that runs: rendering is synchronous, and values are written and compared in places that
 * know nothing of it. A list that holds another twice, which holds another twice, and so on, is endless work.
 */
let running: Budget | undefined;

/** Counts a step of writing or comparing a value. */
export function countStep(): void {
  running?.step();
}

/** Runs `body` with its steps counted. */
export function withBudget<T>(budget: Budget, body: () => T): T {
  const outer = running;
  running = budget;
  try {
    return body();
  } finally {
    running = outer;
  }
}

/** Counts what a rendering costs and stops it at a limit. */
export class Budget {
  readonly limits: Limits;
  readonly #end: number;
  #steps = 0;
  #nextLook = stepsBetweenLooksAtTheClock;
  #depth = 0;

  constructor(limits: Limits) {
    this.limits = limits;
    this.#end = performance.now() + limits.milliseconds;
  }

  step(count = 1): void {
    this.#steps += count;
    if (this.#steps < this.#nextLook) return;
    this.#nextLook = this.#steps + stepsBetweenLooksAtTheClock;
    if (this.#steps > this.limits.steps) throw new TemplateError(`it takes more than ${this.limits.steps} steps`);
    if (performance.now() > this.#end) throw new TemplateError(`it takes more than ${this.limits.milliseconds} ms`);
  }

  /** Counts work on a text, or the making of one, of this length. */
  text(length: number): void {
    if (length > this.limits.textLength) {
      throw new TemplateError(`it makes a text of more than ${this.limits.textLength} characters`);
    }
    this.step(Math.ceil(length / unitsPerStep));
  }

  /** Runs `body` one level deeper. */
  nested<T>(body: () => T): T {
    if (this.#depth >= this.limits.depth) throw new TemplateError(`it nests more than ${this.limits.depth} levels`);
    this.#depth++;
    try {
      return body();
    } finally {
      this.#depth--;
    }
  }
}
