import { describeModel, type ModelDescription } from "../../dist/models/index.js";
import { fixture, readJson } from "./fixtures.js";

// Which golden models are enough to run every variant of the arithmetic once. Where a model is slow to run (emulated kernels, ranks
// that are processes), the others would run the same code again; on the CPU all of them are run, by one rank and by several.

/** Where each value of a spec stands and what it is, as `kinds.attention.mask.kind = causal`. Of a number only that it is there. */
function variantsIn(value: unknown, path: string, into: Set<string>): void {
  if (Array.isArray(value)) {
    for (const one of value.filter((element) => typeof element === "object")) variantsIn(one, path, into);
  } else if (typeof value === "object" && value !== null) {
    into.add(`${path} has ${Object.keys(value).sort()}`);
    for (const [key, one] of Object.entries(value)) variantsIn(one, `${path}.${key}`, into);
  } else {
    into.add(typeof value === "number" ? path : `${path} = ${value}`);
  }
}

/** How numbers relate, where kernels or ranks treat it as a case of its own. */
function relationsOf({ spec }: ModelDescription, ranks: number): string[] {
  const kinds = spec.kinds.flatMap(({ attention: { heads, kvHeads, headDim, positions }, feedForward }) => [
    kvHeads < ranks ? "ranks share kv heads" : `kv heads dealt out ${kvHeads % ranks === 0 ? "evenly" : "unevenly"}`,
    `heads dealt out ${heads % ranks === 0 ? "evenly" : "unevenly"}`,
    `neurons dealt out ${feedForward.size % ranks === 0 ? "evenly" : "unevenly"}`,
    kvHeads === heads ? "kv heads = heads" : kvHeads === 1 ? "one kv head" : "grouped heads",
    `head of ${headDim % 8 === 0 ? "whole" : "odd"} vectors`,
    positions.kind === "rotary" && positions.dims < headDim ? "part of a head turns" : "whole head",
  ]);
  return [
    ...kinds,
    `vocabulary dealt out ${spec.vocabSize % ranks === 0 ? "evenly" : "unevenly"}`,
    spec.kinds.length > 1 ? "layers of several kinds" : "layers of one kind",
    spec.embedding.width === spec.hiddenSize ? "embedding as wide as layers" : "embedding of another width",
    `row of ${spec.hiddenSize % 8 === 0 ? "whole" : "odd"} vectors`,
    ...spec.rotaryTables.map(({ amplitude }) => `rotary amplitude ${amplitude === 1 ? "1" : "not 1"}`),
  ];
}

/** Every variant of the arithmetic in a model divided among so many ranks; none where it is too small. */
export function variantsOf(name: string, ranks: number): Set<string> {
  const description = describeModel(readJson(fixture("golden", name, "config.json")));
  const { kinds, vocabSize } = description.spec;
  const units = kinds.flatMap(({ attention, feedForward }) => [attention.heads, feedForward.size]);
  if (Math.min(vocabSize, ...units) < ranks) return new Set();
  const variants = new Set(relationsOf(description, ranks));
  const { family: _, ...spec } = description.spec;
  variantsIn(spec, "spec", variants);
  // Which weights there are: biases, norms, projections.
  for (const { role } of [...description.layout.body, ...description.layout.head])
    variants.add(`weight ${role.replace(/\d+/, "N")}`);
  return variants;
}

/** As few of these golden models as have every variant that any has: always the one that adds most, the first of equals. */
export function coverGoldens(names: readonly string[], ranks = 1): string[] {
  const missing = new Map(names.map((name) => [name, variantsOf(name, ranks)]));
  const chosen: string[] = [];
  for (;;) {
    const [best, added] = [...missing].reduce(
      (most, one) => (one[1].size > most[1].size ? one : most),
      ["", new Set<string>()],
    );
    if (added.size === 0) return chosen.sort();
    const gained = [...added];
    chosen.push(best);
    for (const left of missing.values()) for (const variant of gained) left.delete(variant);
  }
}
