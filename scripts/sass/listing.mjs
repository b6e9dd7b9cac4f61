// Reads what `cuobjdump -sass` prints: for each kernel and architecture its instructions, with the control bits that say
// which scoreboards an instruction waits for and which it sets.

/**
 * Where the control bits lie in the upper of an instruction's two 64-bit words, on compute capability 7.0 and later: 4 bits
 * of stall, 1 of yield, 3 for the scoreboard that its result releases, 3 for the one that its operands release (7 is
 * none in both), a mask of the 6 scoreboards that must be clear before it is issued, 4 bits of operand reuse.
 */
const controlShift = 41n;

export function controlOf(upperWord) {
  const bits = Number((upperWord >> controlShift) & 0x1fffffn);
  const scoreboard = (shift) => {
    const index = (bits >> shift) & 7;
    return index === 7 ? undefined : index;
  };
  const mask = (bits >> 11) & 0x3f;
  return {
    sets: scoreboard(5),
    releases: scoreboard(8),
    waits: [0, 1, 2, 3, 4, 5].filter((index) => (mask >> index) & 1),
  };
}

const firstLine = /^\s+\/\*([0-9a-f]{4,})\*\/\s+(.*?)\s*;?\s+\/\* 0x([0-9a-f]{16}) \*\/\s*$/;
const secondLine = /^\s+\/\* 0x([0-9a-f]{16}) \*\/\s*$/;

function instructionOf(address, text, upperWord) {
  const [, predicate, opcode, operands] = /^(?:@(\S+)\s+)?(\S+)\s*(.*)$/.exec(text);
  return { address, predicate, opcode, operands, ...controlOf(upperWord) };
}

/** [{ architecture: "sm_90", mangled, instructions: [{ address, predicate, opcode, operands, sets, releases, waits }] }] */
export function readListing(text) {
  const kernels = [];
  let architecture;
  let current;
  let pending;
  for (const line of text.split("\n")) {
    const first = firstLine.exec(line);
    if (first && current) {
      pending = { address: Number.parseInt(first[1], 16), text: first[2] };
      continue;
    }
    const second = pending && secondLine.exec(line);
    if (second) {
      current.instructions.push(instructionOf(pending.address, pending.text, BigInt(`0x${second[1]}`)));
      pending = undefined;
      continue;
    }
    const target = /^\s*code for (sm_\w+)/.exec(line);
    if (target) architecture = target[1];
    const name = /^\s*Function : (\S+)/.exec(line);
    if (name) {
      current = { architecture, mangled: name[1], instructions: [] };
      kernels.push(current);
    }
  }
  return kernels;
}

/** Address that a branch leads to; undefined for other instructions and for branches to what a register holds. */
export function branchTarget({ opcode, operands }) {
  if (!/^(BRA|JMP)(\.|$)/.test(opcode)) return undefined;
  const address = /0x([0-9a-f]+)\s*$/.exec(operands);
  return address ? Number.parseInt(address[1], 16) : undefined;
}
