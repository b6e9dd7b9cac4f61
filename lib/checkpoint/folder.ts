import { readdir } from "node:fs/promises";
import { findForeignForm } from "../base/foreign_model.js";
import type { Logger } from "../base/logger.js";
import { checkpointError, listed } from "./errors.js";
import { isWeightName, systemError } from "./weight_file.js";

/** What makes the checkpoint of a folder: an index that names its files, or the files themselves. */
export type FolderChoice = { index: string } | { files: string[] };

/**
 * Chooses the weights of a model folder. First what transformers takes, in its order (`_get_resolved_checkpoint_files`
 * in modeling_utils.py): model.safetensors, model.safetensors.index.json, pytorch_model.bin,
 * pytorch_model.bin.index.json. It knows no others unless told a name; here follow shards without an index
 * where all are there, and weights under other names where there is one candidate.
 *
 * @throws ERR_CHECKPOINT where there is none, or more than one
 */
export async function chooseFiles(folder: string, logger: Logger): Promise<FolderChoice> {
  const names = await readdir(folder).catch((error: unknown) => {
    throw systemError(folder, error);
  });
  names.sort();
  const sets = findShardSets(names);
  let problem: string | undefined;
  for (const step of steps) {
    const result = step(names, sets);
    if (typeof result === "object") {
      if (problem !== undefined) logger.warn(`${folder}: ${problem}; took ${describeChoice(result)} instead`);
      return result;
    }
    problem ??= result;
  }
  throw checkpointError({ file: folder }, problem ?? describeNoWeights(names));
}

function describeChoice(choice: FolderChoice): string {
  return "index" in choice ? choice.index : listed(choice.files, 3);
}

/** Finds a choice, the reason why what it found is none, or nothing. */
type Step = (names: readonly string[], sets: readonly ShardSet[]) => FolderChoice | string | undefined;

const steps: readonly Step[] = [
  (names) => (names.includes("model.safetensors") ? { files: ["model.safetensors"] } : undefined),
  (names) => chooseIndex(names.filter((name) => name === "model.safetensors.index.json")),
  (_, sets) => chooseShards(sets.filter(({ stem, isSafetensors }) => stem === "model" && isSafetensors)),
  (names) => (names.includes("pytorch_model.bin") ? { files: ["pytorch_model.bin"] } : undefined),
  (names) => chooseIndex(names.filter((name) => name === "pytorch_model.bin.index.json")),
  (_, sets) => chooseShards(sets.filter(({ stem, isSafetensors }) => stem === "pytorch_model" && !isSafetensors)),
  (names) => chooseIndex(names.filter((name) => name.endsWith(".safetensors.index.json"))),
  (_, sets) => chooseShards(sets.filter(({ isSafetensors }) => isSafetensors)),
  (names) => chooseSingle(names.filter((name) => name.endsWith(".safetensors"))),
  (names) => chooseIndex(names.filter((name) => /\.(bin|pt|pth)\.index\.json$/.test(name))),
  (_, sets) => chooseShards(sets.filter(({ isSafetensors }) => !isSafetensors)),
  (names) => chooseSingle(names.filter((name) => /\.(bin|pt|pth)$/.test(name))),
];

function chooseIndex(names: readonly string[]): FolderChoice | string | undefined {
  const [index] = names;
  if (index === undefined) return undefined;
  return names.length === 1 ? { index } : `has more than one index: ${listed(names)}. Open the one that is meant`;
}

/** Files of one checkpoint, `<stem>-00001-of-00003.<ending>` each. */
interface ShardSet {
  stem: string;
  isSafetensors: boolean;
  /** As the names say. */
  total: number;
  /** Number of the shard to its name. */
  shards: Map<number, string>;
  example: string;
  duplicate: string | undefined;
}

const shardName = /^(.+)[-_](\d{1,5})-of-(\d{1,5})\.(safetensors|bin|pt|pth)$/;

function findShardSets(names: readonly string[]): ShardSet[] {
  const sets = new Map<string, ShardSet>();
  for (const name of names) {
    const match = isWeightName(name) ? shardName.exec(name) : null;
    if (match === null) continue;
    const [stem, number, total, ending] = match.slice(1) as [string, string, string, string];
    const key = `${stem}\0${Number(total)}\0${ending}`;
    const set: ShardSet = sets.get(key) ?? {
      stem,
      isSafetensors: ending === "safetensors",
      total: Number(total),
      shards: new Map(),
      example: name,
      duplicate: undefined,
    };
    if (set.shards.has(Number(number))) set.duplicate ??= name;
    set.shards.set(Number(number), name);
    sets.set(key, set);
  }
  return [...sets.values()];
}

function chooseShards(sets: readonly ShardSet[]): FolderChoice | string | undefined {
  const whole = sets.filter((set) => shardProblem(set) === undefined);
  const [set] = whole;
  if (set === undefined) return sets[0] === undefined ? undefined : shardProblem(sets[0]);
  if (whole.length > 1) {
    const examples = whole.map(({ example }) => example);
    return `has shards of more than one checkpoint (${listed(examples)}), and no index that says which is meant`;
  }
  return { files: [...set.shards.entries()].sort(([a], [b]) => a - b).map(([, name]) => name) };
}

function shardProblem({ shards, total, example, duplicate }: ShardSet): string | undefined {
  if (duplicate !== undefined) return `has the same shard under two names, one of them ${duplicate}`;
  // Some tools count from 0.
  const first = shards.has(0) ? 0 : 1;
  const missing: string[] = [];
  for (let number = first; number < first + total; number++) {
    if (!shards.has(number)) missing.push(String(number).padStart(5, "0"));
  }
  if (missing.length > 0) {
    return `lacks ${missing.length} of the ${total} shards that ${example} belongs to: ${listed(missing)}`;
  }
  return shards.size === total ? undefined : `has more than the ${total} shards that ${example} speaks of`;
}

function chooseSingle(names: readonly string[]): FolderChoice | string | undefined {
  const weights = names.filter((name) => isWeightName(name) && !shardName.test(name));
  // The same weights once more, under the names of the original code.
  const usual = weights.filter((name) => !name.startsWith("consolidated"));
  const candidates = usual.length > 0 ? usual : weights;
  const [single] = candidates;
  if (single === undefined) return undefined;
  if (candidates.length === 1) return { files: [single] };
  return `has several weights files and no index that says which is meant: ${listed(candidates)}. Open one of them`;
}

function describeNoWeights(names: readonly string[]): string {
  const others = names.flatMap((name) => {
    const form = findForeignForm(name);
    return form === undefined ? [] : [{ shown: `${name} (${form.name})`, form }];
  });
  const expected =
    "expected model.safetensors or pytorch_model.bin, shards of them with their index, or another .safetensors, .bin, .pt or .pth file";
  const [first] = others;
  if (first !== undefined) {
    const found = listed(others.map(({ shown }) => shown));
    return `holds no weights that can be read, found ${found}; ${expected}. ${first.form.advice}`;
  }
  return `holds no weights, found ${names.length === 0 ? "an empty folder" : listed(names)}; ${expected}`;
}
