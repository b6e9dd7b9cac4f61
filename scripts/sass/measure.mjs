import { branchTarget } from "./listing.mjs";
import { leftUnderWay, mainLoop } from "./loops.mjs";

// What the machine code of a kernel says of it, in numbers that a table can hold.

const instructionBytes = 16;

const isGlobalLoad = (opcode) => /^(LDG|LDGSTS)(\.|$)/.test(opcode);
/** Weights, keys and values: 16 bytes a lane. */
export const isWideLoad = ({ opcode }) => isGlobalLoad(opcode) && /\.128\b/.test(opcode);
const isNarrowLoad = ({ opcode }) => isGlobalLoad(opcode) && !/\.128\b/.test(opcode);
const isElementLoad = ({ opcode }) => isGlobalLoad(opcode) && /\.[US](8|16)\b/.test(opcode);
const isLocal = ({ opcode }) => /^(LDL|STL)(\.|$)/.test(opcode);
const isWait = ({ opcode }) => opcode === "ACQBULK";
const isTrigger = ({ opcode }) => opcode === "PREEXIT";
const isMemoryAccess = ({ opcode }) => /^(LDG|LDGSTS|STG|LD|ST|ATOM|ATOMG|RED|UBLKPF|CCTL)(\.|$)/.test(opcode);
const isBarrier = ({ opcode }) => /^BAR(\.|$)/.test(opcode);

function count(instructions, matches) {
  return instructions.reduce((sum, instruction) => sum + (matches(instruction) ? 1 : 0), 0);
}

/** Places of the waits for the kernels ahead, without those of blocks that have nothing to do and end behind them. */
function waitsThatMatter(instructions) {
  return instructions.flatMap((instruction, place) =>
    isWait(instruction) && instructions[place + 1]?.opcode !== "EXIT" ? [place] : [],
  );
}

/** Code without what fills its end up: the branch to itself and the empty instructions behind it. */
function codeBytes(instructions) {
  let end = instructions.length;
  while (end > 0 && /^(NOP|BRA)$/.test(instructions[end - 1].opcode) && !instructions[end - 1].predicate) --end;
  return end * instructionBytes;
}

/** When the kernels behind this one may start: "never", ahead of the main loop, behind its beginning, or too "early". */
function triggerOf(instructions, loop) {
  const place = instructions.findIndex(isTrigger);
  if (place < 0) return "never";
  const wait = instructions.findIndex(isWait);
  if (wait < 0 || place < wait) return "early";
  return loop && place < loop.first ? "ahead" : "behind";
}

/** What lies between the wait for the kernels ahead and the first trigger behind it: accesses of global memory, barriers, loops. */
function delayOf(instructions) {
  const trigger = instructions.findIndex(isTrigger);
  const wait = instructions.slice(0, Math.max(trigger, 0)).findLastIndex(isWait);
  if (wait < 0) return undefined;
  const between = instructions.slice(wait + 1, trigger);
  const isLoop = (instruction) => branchTarget(instruction) <= instruction.address;
  return count(between, (instruction) => isMemoryAccess(instruction) || isBarrier(instruction) || isLoop(instruction));
}

/**
 * Of any kernel: bytes of code, instructions that use local memory, whether it waits for the kernels ahead of it and when
 * it lets the next ones start, and how much it does between. Of one with a rule also, in its main loop: how many 128-bit loads and groups of copies are left under way when it waits,
 * and how many narrower loads it has; of all of the kernel: loads of single elements, and 128-bit loads ahead of the wait
 * for the kernels before it.
 */
export function measure({ instructions, architecture }, rule) {
  const loop = rule && mainLoop(instructions, rule.holds);
  const measured = {
    bytes: codeBytes(instructions),
    local: count(instructions, isLocal),
    waits: instructions.some(isWait),
    trigger: triggerOf(instructions, loop),
    delay: delayOf(instructions),
  };
  if (!rule) return measured;
  if (loop) Object.assign(measured, leftUnderWay(instructions, loop, isWideLoad));
  measured.narrow = loop && count(instructions.slice(loop.first, loop.last + 1), isNarrowLoad);
  measured.elements = count(instructions, isElementLoad);
  if (hasDependentLaunches(architecture)) {
    const ahead = waitsThatMatter(instructions).map((wait) => count(instructions.slice(0, wait), isWideLoad));
    measured.early = ahead.length > 0 ? Math.min(...ahead) : undefined;
  }
  return measured;
}

/** Programmatic dependent launch, from compute capability 9.0 on: elsewhere its instructions are not there. */
export function hasDependentLaunches(architecture) {
  return Number(/^sm_(\d+)/.exec(architecture)[1]) >= 90;
}
