import type { WeightPlace } from "../descriptor.js";

/** What stands before the names of a checkpoint: found once for all of it, never tensor by tensor. */
export interface CheckpointPrefixes {
  body: string;
  head: string;
}

export interface PrefixSearch {
  /** The best one; undefined where no tensor of the body was found under a name that may be. */
  found: CheckpointPrefixes | undefined;
  /** Bodies that fit equally well, where there is more than one. */
  equals: string[];
  /** A prefix that the body's tensors do have and that no wrapper of ours makes; for messages. */
  foreign: string | undefined;
}

/** Modules that training frameworks wrap around a model, and that end up in the names. */
const wrappers = /^(?:(?:module|model|_orig_mod|_forward_module|_fsdp_wrapped_module|base_model)\.)*$/;

/**
 * Finds the prefix under which a checkpoint keeps a body: wrappers (`module.`), then one of the descriptor's prefixes.
 * The head stands beside the body, behind the wrappers alone.
 */
export function findPrefixes(
  names: ReadonlySet<string>,
  body: readonly WeightPlace[],
  head: readonly WeightPlace[],
  bodyPrefixes: readonly string[],
): PrefixSearch {
  // One layer is enough to find candidates, the whole body decides between them.
  const probes = new Set(body.filter(({ role }) => !/^layers\.[1-9]/.test(role)).map(({ tensor }) => tensor));
  const seen = new Map<string, number>();
  for (const name of names) {
    for (let at = 0; at >= 0; at = after(name, at)) {
      if (probes.has(name.slice(at))) seen.set(name.slice(0, at), (seen.get(name.slice(0, at)) ?? 0) + 1);
    }
  }
  let best: CheckpointPrefixes | undefined;
  let most = 0;
  let equals: string[] = [];
  for (const prefix of seen.keys()) {
    const wrapper = wrapperOf(prefix, bodyPrefixes);
    if (wrapper === undefined) continue;
    const filled = body.filter(({ tensor }) => names.has(prefix + tensor)).length;
    if (filled === most) equals.push(prefix);
    if (filled <= most) continue;
    const outside = [wrapper, ""].find((start) => head.some(({ tensor }) => names.has(start + tensor)));
    best = { body: prefix, head: outside ?? wrapper };
    most = filled;
    equals = [prefix];
  }
  const foreign = [...seen].sort((one, other) => other[1] - one[1])[0];
  return { found: best, equals: equals.length > 1 ? equals : [], foreign: best ? undefined : foreign?.[0] };
}

/** Where the next dot-separated part of a name starts; -1 behind the last. */
function after(name: string, at: number): number {
  const dot = name.indexOf(".", at);
  return dot < 0 ? -1 : dot + 1;
}

function wrapperOf(prefix: string, bodyPrefixes: readonly string[]): string | undefined {
  return bodyPrefixes
    .toSorted((one, other) => other.length - one.length)
    .filter((bodyPrefix) => prefix.endsWith(bodyPrefix))
    .map((bodyPrefix) => prefix.slice(0, prefix.length - bodyPrefix.length))
    .find((wrapper) => wrappers.test(wrapper));
}
