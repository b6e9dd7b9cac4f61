import type { ExpertsFeedForward, RouterSpec, SharedExpert } from "../../native/spec.js";
import type { ConfigReader } from "../config.js";
import { linear, stored, type WeightPlace } from "../descriptor.js";
import { limits } from "../limits.js";
import { narrow, select, transpose, unflatten, type ViewStep } from "../weights/views.js";
import { activations } from "./activations.js";

/** Names of an expert's matrices. */
export interface ExpertNames {
  gate: string;
  up: string;
  down: string;
}

/** Tensors of three dimensions, the first of them the expert: gate and up in one, down in the other. */
export interface FusedExperts {
  gateUp: string;
  down: string;
  /** Rows of a matrix are its outputs, as nn.Linear stores it, or its inputs (GPT-OSS, Llama 4). */
  rows: "outputs" | "inputs";
  /** Gate and up take turns (GPT-OSS); else all of the gate comes first. */
  interleaved?: boolean;
  /** Behind the names of the matrices, where they have biases. */
  biasSuffix?: string;
}

type Experts = Pick<ExpertsFeedForward, "count" | "size">;

/** Experts with gates, in three matrices each; checkpoints of transformers 5 may have them in two tensors for all, `fused`. */
export function expertPlaces(
  experts: Experts,
  hidden: number,
  namesOf: (expert: number) => ExpertNames,
  fused: FusedExperts,
): WeightPlace[] {
  const others = new Map(fusedExpertPlaces(experts, hidden, fused).map((place) => [place.role, place]));
  const places = Array.from({ length: experts.count }, (_, expert) => {
    const { gate, up, down } = namesOf(expert);
    const role = `mlp.experts.${expert}`;
    return [
      ...linear(`${role}.gate`, gate, experts.size, hidden, false),
      ...linear(`${role}.up`, up, experts.size, hidden, false),
      ...linear(`${role}.down`, down, hidden, experts.size, false),
    ];
  }).flat();
  return places.map((place) => ({ ...place, instead: others.get(place.role) }));
}

/** Experts with gates, all in two tensors. */
export function fusedExpertPlaces({ count, size }: Experts, hidden: number, fused: FusedExperts): WeightPlace[] {
  const { gateUp, down, rows, interleaved = false, biasSuffix } = fused;
  const isTurned = rows === "inputs";
  const turned: ViewStep[] = isTurned ? [transpose(0, 1)] : [];
  const shapeOf = (outputs: number, inputs: number) => [count, ...(isTurned ? [inputs, outputs] : [outputs, inputs])];
  /** Gate (0) or up (1) of the outputs, which dimension 0 runs along. */
  const half = (part: 0 | 1): ViewStep[] =>
    interleaved ? [unflatten(0, [size, 2]), select(1, part)] : [narrow(0, part * size, size)];
  return Array.from({ length: count }, (_, expert) => {
    const parts: [name: string, tensor: string, outputs: number, inputs: number, view: ViewStep[]][] = [
      ["gate", gateUp, 2 * size, hidden, half(0)],
      ["up", gateUp, 2 * size, hidden, half(1)],
      ["down", down, hidden, size, []],
    ];
    return parts.flatMap(([name, tensor, outputs, inputs, view]) => {
      const role = `mlp.experts.${expert}.${name}`;
      const weight = stored(`${role}.weight`, tensor, shapeOf(outputs, inputs), select(0, expert), ...turned, ...view);
      if (biasSuffix === undefined) return [weight];
      return [weight, stored(`${role}.bias`, tensor + biasSuffix, [count, outputs], select(0, expert), ...view)];
    });
  }).flat();
}

/** The expert that computes every token. */
export function sharedExpertPlaces(size: number, hidden: number, { gate, up, down }: ExpertNames): WeightPlace[] {
  return [
    ...linear("mlp.shared.gate", gate, size, hidden, false),
    ...linear("mlp.shared.up", up, size, hidden, false),
    ...linear("mlp.shared.down", down, hidden, size, false),
  ];
}

/** Keys of configs that are about the training of routers. */
export const routerTrainingKeys = ["output_router_logits", "router_aux_loss_coef"];

/** Where the weights of a mixture lie in a layer. */
export interface MixtureNames {
  router: string;
  /** Of one expert's matrices; without it they are in `fused` alone. */
  expert?: (expert: number) => ExpertNames;
  fused: FusedExperts;
  shared?: ExpertNames;
  sharedRouter?: string;
  /** Of the router's numbers that choose and do not weigh. */
  correction?: string;
  routerBias?: boolean;
  /** Names in checkpoints that have not these. */
  instead?: { router: string; fused?: FusedExperts };
}

export interface MixtureOptions {
  names: MixtureNames;
  /** Of config.json: the neurons of one expert. */
  sizeKey: string;
  router: Omit<RouterSpec, "normalise"> & { normalise?: boolean };
  shared?: SharedExpert;
  clamped?: ExpertsFeedForward["clamped"];
}

/** How many experts there are, under any of the names of it; "num_experts" has the default. */
function readCount(config: ConfigReader): number {
  const [key = "num_experts", ...others] = ["num_local_experts", "num_experts", "n_routed_experts"].filter((name) =>
    config.has(name),
  );
  const count = config.integer(key, { maximum: limits.experts });
  for (const other of others) {
    if (config.raw(other) !== count) throw config.wrong(other, `${count}, as ${key}, which is the same setting`);
  }
  const layers = config.integer("num_hidden_layers", { maximum: limits.layers });
  if (count * layers > limits.allExperts) {
    throw config.wrong(key, `at most ${limits.allExperts} experts in all of ${layers} layers`);
  }
  return count;
}

/** A mixture of experts with gates, num_experts_per_tok of them for a token. */
export function readMixture(
  config: ConfigReader,
  hidden: number,
  { names, sizeKey, router, shared, clamped }: MixtureOptions,
): { spec: ExpertsFeedForward; places: WeightPlace[] } {
  const count = readCount(config);
  const perToken = config.integer("num_experts_per_tok", { maximum: count });
  const size = config.integer(sizeKey, { maximum: limits.ffn });
  const spec: ExpertsFeedForward = {
    ...{ kind: "experts", count, perToken, size, gated: true },
    activation: config.choice("hidden_act", activations, "silu"),
    ...(clamped ? { clamped } : {}),
    router: { normalise: false, ...router },
    ...(shared ? { shared } : {}),
  };
  return { spec, places: mixturePlaces(spec, hidden, names) };
}

function mixturePlaces(spec: ExpertsFeedForward, hidden: number, names: MixtureNames): WeightPlace[] {
  const { router, expert, fused, correction, instead } = names;
  const routerPlaces = linear("mlp.router", router, spec.count, hidden, names.routerBias ?? false);
  if (instead) {
    const [other] = linear("mlp.router", instead.router, spec.count, hidden, false);
    for (const place of routerPlaces) place.instead = other;
  }
  return [
    ...routerPlaces,
    ...(correction === undefined ? [] : [stored("mlp.router.correction.weight", correction, [spec.count])]),
    ...(expert ? expertPlaces(spec, hidden, expert, fused) : fusedPlaces(spec, hidden, fused, instead?.fused)),
    ...(spec.shared && names.shared ? sharedExpertPlaces(spec.shared.size, hidden, names.shared) : []),
    ...(names.sharedRouter === undefined ? [] : linear("mlp.shared.router", names.sharedRouter, 1, hidden, false)),
  ];
}

function fusedPlaces(
  spec: ExpertsFeedForward,
  hidden: number,
  fused: FusedExperts,
  other: FusedExperts | undefined,
): WeightPlace[] {
  const others = other ? fusedExpertPlaces(spec, hidden, other) : [];
  return fusedExpertPlaces(spec, hidden, fused).map((place, at) => ({ ...place, instead: others[at] }));
}

/** Llama's names of the matrices of a network. */
export function gatedNames(stem: string): ExpertNames {
  return { gate: `${stem}.gate_proj`, up: `${stem}.up_proj`, down: `${stem}.down_proj` };
}

/** Names that most families have: `mlp.experts.N.gate_proj`, or as transformers 5 holds them. */
export const commonExperts = {
  expert: (expert: number) => gatedNames(`mlp.experts.${expert}`),
  fused: { gateUp: "mlp.experts.gate_up_proj", down: "mlp.experts.down_proj", rows: "outputs" },
} as const;

/** Mixtral's names. */
export const mixtralExperts = {
  expert: (expert: number) => ({
    gate: `block_sparse_moe.experts.${expert}.w1`,
    up: `block_sparse_moe.experts.${expert}.w3`,
    down: `block_sparse_moe.experts.${expert}.w2`,
  }),
  fused: commonExperts.fused,
} as const;
