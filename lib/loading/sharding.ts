import { ShardspeedError } from "../base/errors.js";
import { countUnits, parseRole, type Unit } from "../models/roles.js";
import { mostRanks } from "../native/limits.js";
import type { ModelSpec, WeightView } from "../native/spec.js";

/** Ranks that each get something of everything that is divided: whole heads, feed-forward neurons and vocabulary rows. */
export function largestTpSize(spec: ModelSpec): number {
  return Math.min(least(spec, "heads"), leastNeurons(spec), spec.vocabSize, mostRanks);
}

/** Of one network, an expert or a shared one. */
function leastNeurons(spec: ModelSpec): number {
  return Math.min(least(spec, "neurons"), least(spec, "sharedNeurons"));
}

/** Of the layer that has fewest. */
function least(spec: ModelSpec, unit: Unit): number {
  return Math.min(...spec.kinds.map((kind) => countUnits(spec, kind, unit)).filter((count) => count > 0));
}

/**
 * Refuses a group that a model cannot be divided among. Sizes that divide nothing evenly are fine: some ranks get a head, a block of
 * neurons or of vocabulary rows more than others (src/model/shard.h).
 *
 * @param name What the caller has set it by.
 * @throws ShardspeedError ERR_CONFIG with the sizes that are possible.
 */
export function checkTpSize(spec: ModelSpec, tpSize: number, name = "tensor_parallel.tp_size"): void {
  const largest = largestTpSize(spec);
  if (tpSize <= largest) return;
  const [heads, kvHeads, neurons] = [least(spec, "heads"), least(spec, "kvHeads"), leastNeurons(spec)];
  const limits: [number, string][] = [
    [heads, `${heads} attention heads`],
    [neurons, `${neurons} feed-forward neurons`],
    [spec.vocabSize, `${spec.vocabSize} vocabulary rows`],
    [mostRanks, `no model on more than ${mostRanks} ranks`],
  ];
  const limit = limits.find(([count]) => count === largest)?.[1];
  throw new ShardspeedError(
    "ERR_CONFIG",
    `Found ${name} ${tpSize}, but this ${spec.family} model has ${limit}, and every rank needs one of its own. ` +
      `Valid sizes are 1 to ${largest}; those that divide ${heads} heads${kvHeads === heads ? "" : ` and ${kvHeads} KV heads`} share the work evenly.`,
  );
}

/**
 * The shapes of a model's tensors as a rank holds them.
 *
 * @param held Rows and columns of the rank's part of each matrix, by role without ".weight"; what is not in it, the rank does not hold.
 */
export function shardedTensors(
  weights: readonly Pick<WeightView, "role" | "tensor" | "shape">[],
  held: Record<string, [rows: number, cols: number]>,
): { role: string; name: string; shape: number[] }[] {
  return weights.flatMap(({ role, tensor, shape }) => {
    const matrix = role.replace(/\.(weight|bias)$/, "");
    const part = held[matrix];
    const { isVector } = parseRole(role).role;
    // Norms of whole rows are on every rank.
    if (part === undefined) return isVector ? [{ role, name: tensor, shape }] : [];
    const [rows, cols] = part;
    if (isVector) return [{ role, name: tensor, shape: [cols] }];
    if (role.endsWith(".bias")) return [{ role, name: tensor, shape: [rows] }];
    // A view of more dimensions stays as it is where nothing is cut off it.
    const whole = shape.slice(0, -1).reduce((product, length) => product * length, 1) === rows && shape.at(-1) === cols;
    return [{ role, name: tensor, shape: whole ? shape : [rows, cols] }];
  });
}
