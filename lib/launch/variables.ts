import { ShardspeedError } from "../base/errors.js";
import { truncate } from "../base/text.js";

/** Who started this process. */
export type Launcher =
  | "torchrun"
  | "deepspeed"
  | "slurm"
  | "openmpi"
  | "mpich"
  | "kubernetes"
  | "shardspeed"
  | "environment";

export interface Variable {
  name: string;
  value: string;
}

/** The first of these variables that is set. One that is set to nothing counts as not set, as in a manifest with an empty value. */
export type Lookup = (...names: string[]) => Variable | undefined;

/** What a launcher's own variables say, before the generic ones are looked at. */
export interface LauncherVariables {
  launcher: Launcher;
  rank?: Variable | undefined;
  worldSize?: Variable | undefined;
  localRank?: Variable | undefined;
  localWorldSize?: Variable | undefined;
  masterAddr?: Variable | undefined;
  launchId?: string | undefined;
}

/** An error that names the variables which are wrong together, and what to do with them. */
export function wrong(found: (Variable | undefined)[], expected: string): ShardspeedError {
  const shown = found
    .filter((variable) => variable !== undefined)
    .map(({ name, value }) => `${name}=${truncate(value)}`)
    .join(", ");
  return new ShardspeedError(
    "ERR_CONFIG",
    `The launcher's variables are wrong: found ${shown}, expected ${expected}. Start all ranks by one launcher (shardspeed run, torchrun, ` +
      "deepspeed, srun, mpirun), or unset these variables to run without others.",
  );
}
