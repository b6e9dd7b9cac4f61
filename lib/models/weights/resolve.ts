import { ShardspeedError } from "../../base/errors.js";
import { type Logger, silentLogger } from "../../base/logger.js";
import type { Checkpoint, TensorEntry } from "../../checkpoint/types.js";
import type { ModelSpec, StoredWeightDtype, WeightDtype, WeightPlan, WeightView } from "../../native/spec.js";
import type { Adapter } from "../adapters/adapter.js";
import { type MergedParts, mergeAdapter } from "../adapters/merge.js";
import type { ModelDescription, WeightPlace } from "../descriptor.js";
import { adapt } from "./adapt.js";
import { type CheckpointPrefixes, findPrefixes } from "./prefixes.js";
import { bytesOf, findJoint, isStoredWeightDtype, type Joint, makeTiles, rowsOf } from "./tiles.js";

/** A WeightPlan, and what the checkpoint says about the model beyond it. */
export interface ResolvedWeights extends WeightPlan {
  /** The type that most bytes of the weights have. */
  storedDtype: WeightDtype;
  /** The description's, with the head tied or not as the checkpoint has it. */
  spec: ModelSpec;
}

/** What is merged with a checkpoint's weights. */
export interface Merged {
  adapter: Adapter;
  /** The names of the model's own class; a Megatron-LM checkpoint has others. */
  layout: ModelDescription["layout"];
}

/** A place, and the tensor that was found there. */
interface Match {
  place: WeightPlace;
  entry: TensorEntry;
}

/** The same, and the pieces that the tensor was cut into: one, where it was not. */
interface Placed {
  place: WeightPlace;
  pieces: TensorEntry[];
  joint: Joint;
}

/**
 * Finds every weight of a described model in a checkpoint. Reads names, shapes and types, no weight.
 *
 * A tied model whose checkpoint has a head of its own all the same keeps that head unless it is the very same bytes: as
 * transformers 5, which ties only where the two are equal.
 * @throws ShardspeedError ERR_CHECKPOINT for missing tensors (all are listed), wrong shapes, types that are no weights
 */
export function resolveWeights(
  given: ModelDescription,
  opened: Checkpoint,
  options: { logger?: Logger; merged?: Merged | undefined } = {},
): ResolvedWeights {
  const logger = options.logger ?? silentLogger;
  const { description, checkpoint } = adapt(given, opened);
  const prefixes = choosePrefixes(description, checkpoint);
  const { matches, tiedHead } = matchPlaces(description, checkpoint, prefixes, logger);
  const faults: string[] = [];
  const placed = matches.flatMap((match) => putTogether(match, checkpoint, faults));
  const parts = options.merged && mergeParts(options.merged, matches, description, checkpoint, tiedHead);
  const untied = parts !== undefined && tiedHead && changesOne(parts) ? untie(description, placed) : undefined;
  const views = [...placed, ...(untied ? [untied] : [])].flatMap(({ place, pieces, joint }) => {
    try {
      return makeTiles(place, pieces, joint);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      faults.push(
        `${checkpoint.path}: the shards of ${pieces[0]?.name} are cut where they cannot be (${error.message}).`,
      );
      return [];
    }
  });
  if (faults.length > 0) {
    throw new ShardspeedError(
      "ERR_CHECKPOINT",
      `${[...new Set(faults)].join("\n")}\nconfig.json and the weights do not belong together, or one of them is damaged.`,
    );
  }
  warnOfUnexpected(description, checkpoint, prefixes, matches, logger);
  const files = [...checkpoint.files, ...(options.merged?.adapter.files ?? [])];
  return {
    files: files.map(({ path, bytes }) => ({ path, bytes })),
    weights: parts === undefined ? views : withReplaced(views, parts),
    ...(parts === undefined ? {} : { additions: parts.additions }),
    storedDtype: dominantDtype(views),
    spec: withHead(description.spec, tiedHead && untied === undefined),
  };
}

const tiedRoles = ["embed.tokens.weight", "head.weight"];

function mergeParts(
  { adapter, layout }: Merged,
  matches: readonly Match[],
  description: ModelDescription,
  checkpoint: Checkpoint,
  tiedHead: boolean,
): MergedParts {
  const roles = new Set(matches.map(({ place }) => place.role));
  if (tiedHead && description.layout.head.some(({ role }) => role === "head.weight")) roles.add("head.weight");
  return mergeAdapter(adapter, layout, roles, checkpoint.files.length);
}

/**
 * Whether an adapter gives a tied head or its embedding something that the other does not share, as in PEFT while the adapter is not merged
 * yet. Of a tensor that it holds because of a larger vocabulary both have a part.
 */
function changesOne({ additions, replaced, own }: MergedParts): boolean {
  return (
    replaced.has("head.weight") ||
    tiedRoles.some((tied) => own.has(tied) || additions.some(({ role }) => role === tied))
  );
}

/** The head as a matrix of its own, read from where the embedding is. */
function untie({ layout }: ModelDescription, placed: readonly Placed[]): Placed | undefined {
  const place = layout.head.find(({ role }) => role === "head.weight");
  const embedding = placed.find((one) => one.place.role === "embed.tokens.weight");
  return place && embedding && { ...embedding, place };
}

function withReplaced(views: readonly WeightView[], { replaced }: MergedParts): WeightView[] {
  return [...views.filter(({ role }) => !replaced.has(role)), ...[...replaced.values()].flat()];
}

function isTied({ output }: ModelSpec): boolean {
  return output.kind === "logits" && output.tied;
}

function withHead(spec: ModelSpec, tied: boolean): ModelSpec {
  return spec.output.kind === "logits" ? { ...spec, output: { ...spec.output, tied } } : spec;
}

function choosePrefixes(description: ModelDescription, checkpoint: Checkpoint): CheckpointPrefixes {
  const { body, head, bodyPrefixes } = description.layout;
  const names = new Set(checkpoint.tensors.keys());
  const { found, equals, foreign } = findPrefixes(names, body, head, bodyPrefixes);
  if (equals.length > 0) {
    throw new ShardspeedError(
      "ERR_CHECKPOINT",
      `${checkpoint.path} holds more than one model: its tensors fit under ${equals.map((prefix) => JSON.stringify(prefix)).join(" and ")}. Save the one to run by itself.`,
    );
  }
  if (found) return found;
  const near =
    foreign === undefined
      ? "none of its tensors has a name that this architecture knows"
      : `its tensors stand behind ${JSON.stringify(foreign)}, expected one of ${bodyPrefixes.map((prefix) => JSON.stringify(prefix)).join(", ")}`;
  throw missing(
    description,
    checkpoint,
    [...body, ...(isTied(description.spec) ? [] : head)].map(
      ({ tensor }) => (head.some((place) => place.tensor === tensor) ? "" : bodyPrefixes[0]) + tensor,
    ),
    near,
  );
}

function missing(
  description: Pick<ModelDescription, "spec" | "layout">,
  checkpoint: Checkpoint,
  names: string[],
  why: string,
): ShardspeedError {
  const unique = [...new Set(names)];
  const promised = unique.find((name) => checkpoint.promised?.has(name));
  const broken =
    promised === undefined
      ? ""
      : ` Its index names ${promised} in ${checkpoint.promised?.get(promised)}, which does not hold it.`;
  return new ShardspeedError(
    "ERR_CHECKPOINT",
    `${checkpoint.path} lacks ${unique.length} ${unique.length === 1 ? "tensor" : "tensors"} of the ${description.spec.family} model that config.json describes (it holds ${checkpoint.tensors.size}; ${why}): ${unique.join(", ")}.${broken} Check that all files are there and that config.json belongs to them.`,
  );
}

function matchPlaces(
  description: ModelDescription,
  checkpoint: Checkpoint,
  prefixes: CheckpointPrefixes,
  logger: Logger,
): { matches: Match[]; tiedHead: boolean } {
  const { spec, layout } = description;
  const { tensors } = checkpoint;
  const matches: Match[] = [];
  const absent: string[] = [];
  const head = new Map(layout.head.map((place) => [place.role, tensors.get(prefixes.head + place.tensor)]));
  const headWeight = head.get("head.weight");
  let tiedHead = isTied(spec);
  for (const place of layout.body) {
    const entry = tensors.get(prefixes.body + place.tensor);
    const other = place.instead && tensors.get(prefixes.body + place.instead.tensor);
    if (entry) matches.push({ place, entry });
    else if (place.instead && other) matches.push({ place: place.instead, entry: other });
    // Tied: either of the two is enough.
    else if (tiedHead && place.role === "embed.tokens.weight" && headWeight) matches.push({ place, entry: headWeight });
    else absent.push(prefixes.body + place.tensor);
  }
  const embedding = matches.find(({ place }) => place.role === "embed.tokens.weight")?.entry;
  if (tiedHead && headWeight && embedding && !sameBytes(headWeight, embedding)) {
    logger.warn(
      `config.json ties the head to the token embedding, but ${checkpoint.path} has a ${headWeight.name} of its own: it is used, as in transformers. If the two are equal, leaving it out saves memory.`,
    );
    tiedHead = false;
  }
  for (const place of layout.head) {
    if (tiedHead && place.role === "head.weight") continue;
    const entry = head.get(place.role);
    if (entry) matches.push({ place, entry });
    else absent.push(prefixes.head + place.tensor);
  }
  if (absent.length > 0) {
    const where = `${matches.length} of ${matches.length + absent.length} were found`;
    throw missing(description, checkpoint, absent, where);
  }
  return { matches, tiedHead };
}

function sameBytes(one: TensorEntry, other: TensorEntry): boolean {
  return (
    one === other ||
    (one.file === other.file &&
      one.byteOffset === other.byteOffset &&
      one.dtype === other.dtype &&
      equal(one.shape, other.shape) &&
      equal(one.strides, other.strides))
  );
}

function equal(one: readonly number[], other: readonly number[]): boolean {
  return one.length === other.length && one.every((value, at) => value === other[at]);
}

/** Finds out how the pieces of a tensor belong together, or what is wrong with them. */
function putTogether({ place, entry }: Match, checkpoint: Checkpoint, faults: string[]): Placed[] {
  const pieces = checkpoint.pieces?.get(entry.name) ?? [entry];
  const fileOf = (piece: TensorEntry) => checkpoint.files[piece.file]?.path ?? checkpoint.path;
  const foreign = pieces.find(({ dtype }) => !isStoredWeightDtype(dtype));
  if (foreign !== undefined) {
    faults.push(
      `${fileOf(foreign)}: tensor ${entry.name} is stored as ${foreign.dtype}, expected float32, float16, bfloat16 or float64.`,
    );
    return [];
  }
  const joint = findJoint(place, pieces);
  if (joint !== undefined) return [{ place, pieces, joint }];
  const shapes = [...new Set(pieces.map(({ shape }) => `[${shape.join(", ")}]`))].join(", ");
  const found = pieces.length === 1 ? `has shape ${shapes}` : `is in ${pieces.length} shards of shape ${shapes}`;
  const cut = pieces.length === 1 ? "" : " or shards that add up to it";
  faults.push(
    `${fileOf(entry)}: tensor ${entry.name} ${found}, expected [${place.shape.join(", ")}]${cut} from config.json.`,
  );
  return [];
}

function warnOfUnexpected(
  { spec, layout }: ModelDescription,
  checkpoint: Checkpoint,
  prefixes: CheckpointPrefixes,
  matches: Match[],
  logger: Logger,
): void {
  const known = new Set(matches.map(({ entry }) => entry.name));
  // A tied head is known whether it is used or not.
  for (const { tensor } of layout.head) known.add(prefixes.head + tensor);
  const unexpected = [...checkpoint.tensors.keys()].filter(
    (name) => !known.has(name) && !layout.ignoredTensors.some((pattern) => pattern.test(name)),
  );
  if (unexpected.length === 0) return;
  logger.warn(
    `${checkpoint.path} holds ${unexpected.length} ${unexpected.length === 1 ? "tensor" : "tensors"} that the ${spec.family} model of config.json does not use: ${unexpected.join(", ")}`,
  );
}

/**
 * The tensors of the roles, each once: what is in tiles, with the shape that they make up.
 */
export function roleTensors(
  weights: readonly WeightView[],
): { role: string; tensor: string; dtype: StoredWeightDtype; shape: number[] }[] {
  const roles = new Map<string, WeightView[]>();
  for (const view of weights) roles.set(view.role, [...(roles.get(view.role) ?? []), view]);
  return [...roles].map(([role, views]) => {
    const [{ tensor, dtype, shape }] = views as [WeightView];
    if (views.length === 1) return { role, tensor, dtype, shape };
    const reach = (first: "firstRow" | "firstCol", length: (view: WeightView) => number) =>
      Math.max(...views.map((view) => (view[first] ?? 0) + length(view)));
    const cols = reach("firstCol", (view) => view.shape.at(-1) as number);
    return {
      role,
      tensor,
      dtype,
      shape: shape.length === 1 ? [cols] : [reach("firstRow", (view) => rowsOf(view.shape)), cols],
    };
  });
}

/** The type of most bytes; float32 for float64, which no engine holds its weights in. */
function dominantDtype(weights: readonly WeightView[]): WeightDtype {
  const bytes = new Map<StoredWeightDtype, number>();
  for (const { dtype, shape } of weights) {
    const size = shape.reduce((product, part) => product * part, bytesOf(dtype));
    bytes.set(dtype, (bytes.get(dtype) ?? 0) + size);
  }
  const [largest] = [...bytes].sort((one, other) => other[1] - one[1]);
  const dtype = largest?.[0] ?? "float32";
  return dtype === "float64" ? "float32" : dtype;
}
