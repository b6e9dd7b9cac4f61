import { type PickleEnvironment, PickleMachine, pickleLimits } from "./pickle_machine.js";
import { opcodes } from "./pickle_opcodes.js";
import { PickleError, type PickleValue } from "./pickle_values.js";

/**
 * Reads one pickle from `bytes`, beginning at `start`: protocols 0 to 5 as the pickletools module of Python describes
 * them. Builds plain values, and what `environment` makes of names; runs nothing.
 *
 * @returns the value, and the position behind the pickle
 * @throws PickleTruncated where the bytes end too early, PickleError for all else
 */
export function readPickle(
  bytes: Buffer,
  environment: PickleEnvironment,
  start = 0,
): { value: PickleValue; end: number } {
  const machine = new PickleMachine(bytes, environment, start);
  for (let count = 0; ; count++) {
    if (count === pickleLimits.opcodes) throw new PickleError(`has more than ${pickleLimits.opcodes} instructions`);
    const code = machine.u8();
    if (code === kStop) return { value: machine.pop(), end: machine.position };
    const run = opcodes[code];
    if (run === undefined) {
      const shown = code.toString(16).padStart(2, "0");
      throw new PickleError(`has the unknown instruction 0x${shown} at byte ${machine.position - 1}`);
    }
    run(machine);
  }
}

const kStop = 0x2e;
