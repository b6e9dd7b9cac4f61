import type { Checkpoint, TensorEntry } from "../../checkpoint/types.js";
import type { ModelDescription } from "../descriptor.js";

/**
 * A description and a checkpoint that fit each other where older versions and other tools leave something out: names that have changed since
 * have their present ones, and a pooler that was not saved is none.
 */
export function adapt(
  description: ModelDescription,
  checkpoint: Checkpoint,
): { description: ModelDescription; checkpoint: Checkpoint } {
  const renamed = withPresentNames(checkpoint, description.layout.renames);
  return { description: withoutMissingPooler(description, renamed), checkpoint: renamed };
}

function withPresentNames(checkpoint: Checkpoint, renames: ModelDescription["layout"]["renames"]): Checkpoint {
  const present = (name: string) => renames.reduce((now, [found, instead]) => now.replace(found, instead), name);
  const { tensors, pieces } = checkpoint;
  // A checkpoint that has a tensor under both names keeps the present one.
  const moved = new Map(
    [...tensors.keys()].map((name) => [name, present(name)] as const).filter(([, name]) => !tensors.has(name)),
  );
  if (moved.size === 0) return checkpoint;
  const move = <T>(entries: ReadonlyMap<string, T>, rename: (value: T, name: string) => T) =>
    new Map(
      [...entries].map(([old, value]) => {
        const name = moved.get(old);
        return name === undefined ? ([old, value] as const) : ([name, rename(value, name)] as const);
      }),
    );
  const named = (entry: TensorEntry, name: string) => ({ ...entry, name });
  return {
    ...checkpoint,
    tensors: move(tensors, named),
    ...(pieces ? { pieces: move(pieces, (own, name) => own.map((entry) => named(entry, name))) } : {}),
  };
}

/** transformers makes a pooler up at random where a checkpoint has none: models for embeddings are saved without. */
function withoutMissingPooler(description: ModelDescription, { tensors }: Checkpoint): ModelDescription {
  const { spec, layout } = description;
  if (spec.output.kind !== "hidden" || spec.output.pooler === undefined) return description;
  const isPooler = ({ role }: { role: string }) => role.startsWith("head.dense.") || role.startsWith("head.norm.");
  const places = layout.body.filter(isPooler);
  const names = [...tensors.keys()];
  if (places.some(({ tensor }) => names.some((name) => name === tensor || name.endsWith(`.${tensor}`)))) {
    return description;
  }
  const { pooler: _absent, ...output } = spec.output;
  const body = layout.body.filter((place) => !isPooler(place));
  return { ...description, spec: { ...spec, output }, layout: { ...layout, body } };
}
