import { branchTarget } from "./listing.mjs";

// The loops of a kernel, and how many of its loads are under way in one of them whenever it waits.

/** Bodies of all loops: what lies between a target and the last branch back to it. A branch to itself ends a kernel's code. */
export function loopsOf(instructions) {
  const places = new Map(instructions.map(({ address }, place) => [address, place]));
  const lastOf = new Map();
  for (const [place, instruction] of instructions.entries()) {
    const target = branchTarget(instruction);
    const first = target === undefined ? undefined : places.get(target);
    if (first !== undefined && first < place) lastOf.set(first, place);
  }
  return [...lastOf].map(([first, last]) => ({ first, last }));
}

/**
 * The main loop: of the loops that hold an instruction for each of these patterns and no other such loop, the one with
 * most instructions that match the first pattern. { first, last }, or undefined.
 */
export function mainLoop(instructions, holds) {
  const patterns = holds.map((pattern) => new RegExp(pattern));
  const count = ({ first, last }, pattern) => {
    let found = 0;
    for (let place = first; place <= last; ++place) if (pattern.test(instructions[place].opcode)) ++found;
    return found;
  };
  const fitting = loopsOf(instructions).filter((loop) => patterns.every((pattern) => count(loop, pattern) > 0));
  const isInside = (inner, outer) => inner !== outer && inner.first >= outer.first && inner.last <= outer.last;
  const innermost = fitting.filter((loop) => !fitting.some((other) => isInside(other, loop)));
  let most;
  for (const loop of innermost) if (!most || count(loop, patterns[0]) > count(most, patterns[0])) most = loop;
  return most;
}

const isCopy = (opcode) => opcode.startsWith("LDGSTS");

/** What is under way: on each scoreboard, oldest first, single loads and groups of copies; and copies in no group yet. */
class Flight {
  scoreboards = [[], [], [], [], [], []];
  ungrouped = 0;

  /** { loads, copies, groups } under way. */
  counts() {
    const all = this.scoreboards.flat();
    const sum = (name) => all.reduce((total, entry) => total + entry[name], 0);
    return { loads: sum("loads"), copies: sum("copies") + this.ungrouped, groups: sum("groups") };
  }

  /** Takes all but the newest `kept` entries off a scoreboard, and returns them. */
  drain(scoreboard, kept) {
    const entries = this.scoreboards[scoreboard];
    return entries.splice(0, Math.max(0, entries.length - kept));
  }

  /** Lets an instruction happen, whatever its predicate; what it waited for. */
  step({ opcode, operands, sets, waits }, isLoad) {
    const done = waits.flatMap((scoreboard) => this.drain(scoreboard, 0));
    const counted = opcode.startsWith("DEPBAR") && /SB(\d)(?:,\s*0x([0-9a-f]+))?/.exec(operands);
    if (counted) done.push(...this.drain(Number(counted[1]), Number.parseInt(counted[2] ?? "0", 16)));
    if (isLoad && isCopy(opcode)) ++this.ungrouped;
    else if (isLoad && sets !== undefined) this.scoreboards[sets].push({ loads: 1, copies: 0, groups: 0 });
    if (opcode.startsWith("LDGDEPBAR") && sets !== undefined) {
      this.scoreboards[sets].push({ loads: 0, copies: this.ungrouped, groups: 1 });
      this.ungrouped = 0;
    }
    return done;
  }
}

// More rounds than any ring has slots.
const rounds = 16;

/**
 * { loads, copies, groups }: the fewest loads into registers that are left under way when the loop waits for one, and the
 * fewest asynchronous copies, and groups of them, when it waits for a group, after as many rounds as it takes to fill it.
 * Undefined where it never waits for any. Instructions are taken in the order of their addresses, as if all were executed.
 */
export function leftUnderWay(instructions, { first, last }, isLoad) {
  const flight = new Flight();
  const least = {};
  const keepLeast = (name, value) => {
    least[name] = Math.min(least[name] ?? value, value);
  };
  for (let round = 0; round < rounds; ++round) {
    for (let place = first; place <= last; ++place) {
      const done = flight.step(instructions[place], isLoad(instructions[place]));
      if (round < rounds - 1) continue;
      const counts = flight.counts();
      if (done.some(({ loads }) => loads > 0)) keepLeast("loads", counts.loads);
      if (done.some(({ copies }) => copies > 0)) {
        keepLeast("copies", counts.copies);
        keepLeast("groups", counts.groups);
      }
    }
  }
  return least;
}
