import type { LatentAttention, RouterSpec } from "../../native/spec.js";
import type { ConfigReader } from "../config.js";
import { linear, type ModelDescriptor, norm, stored, type WeightPlace } from "../descriptor.js";
import { limits } from "../limits.js";
import { type DecoderSizes, type LlamaLike, llamaLike, noBias, readFeedForward } from "../llama_like.js";
import { narrow, unflatten } from "../weights/views.js";
import { commonExperts, gatedNames, readMixture, routerTrainingKeys } from "./experts.js";
import { readRope, scaledRopeSection } from "./rope.js";

/** What routers of DeepSeek's models differ in; `best`: of how many scores the score of a group is the sum, absent without groups. */
type Router = Omit<RouterSpec, "normalise" | "groups"> & { normalise?: boolean; best?: number };

interface DeepseekLike extends Omit<LlamaLike, "differences"> {
  readRouter(config: ConfigReader): Router;
  /** The tensor of the router's correction. */
  correction?: string;
}

/** DeepSeek-V2 and V3: latent attention, dense layers first, then mixtures of experts with some for all tokens. */
export function deepseekLike({ readRouter, correction, ...own }: DeepseekLike): ModelDescriptor {
  return llamaLike({
    ...own,
    ignoredKeys: [
      ...routerTrainingKeys,
      ...["aux_loss_alpha", "ep_size", "moe_layer_freq", "pretraining_tp", "seq_aux", ...(own.ignoredKeys ?? [])],
    ],
    differences(config, sizes) {
      const heads = readLatentHeads(config, sizes);
      const { positionDims } = heads.latent;
      const rope = readRope(config, { ...sizes, headDim: positionDims });
      const scale = heads.headDim ** -0.5 * scaleOfYarn(config);
      const { headDim, latent } = heads;
      const experts = readExperts(config, sizes.hidden, readRouter(config), correction);
      const dense = readFeedForward(config, sizes.hidden, noBias);
      const first = config.integer("first_k_dense_replace", { minimum: 0, maximum: limits.layers });
      return {
        ropes: [rope],
        rotaryLayout: config.flag("rope_interleave", true) ? "interleaved" : "half",
        attention: { headDim, scale, latent },
        attentionPlaces: latentPlaces(sizes, heads, config.flag("attention_bias", false)),
        layers: Array.from({ length: sizes.layers }, (_, layer) => ({ feedForward: layer < first ? dense : experts })),
      };
    },
  });
}

interface LatentHeads {
  headDim: number;
  /** Elements of a key that belong to its head alone. */
  keyDim: number;
  latent: LatentAttention;
}

function readLatentHeads(config: ConfigReader, { heads, kvHeads }: DecoderSizes): LatentHeads {
  const width = (key: string) => config.integer(key, { maximum: limits.headDim });
  const [keyDim, positionDims, valueDim] = [width("qk_nope_head_dim"), width("qk_rope_head_dim"), width("v_head_dim")];
  const headDim = keyDim + positionDims;
  if (kvHeads !== heads) throw config.wrong("num_key_value_heads", `the number of attention heads, ${heads}`);
  if (valueDim > headDim) throw config.wrong("v_head_dim", `at most ${headDim}, the width of a key`);
  if (positionDims % 2 !== 0) throw config.wrong("qk_rope_head_dim", "an even number (rotary positions turn pairs)");
  for (const [key, values] of [
    ["head_dim", [positionDims, headDim]],
    ["qk_head_dim", [headDim]],
  ] as const) {
    const found = config.raw(key) ?? values[0];
    const isDefault = !config.has(key);
    if (!isDefault && !values.some((value) => value === found)) throw config.wrong(key, values.join(" or "));
  }
  const rank = config.integer("kv_lora_rank", { maximum: limits.width });
  const queryRank =
    config.raw("q_lora_rank") === null ? undefined : config.integer("q_lora_rank", { maximum: limits.width });
  // The reference gives these norms no epsilon of the config.
  const latentNorm = { kind: "rms", epsilon: 1e-6 } as const;
  const latent = { ...(queryRank === undefined ? {} : { queryRank }), rank, positionDims, valueDim, norm: latentNorm };
  return { headDim, keyDim, latent };
}

/** YaRN's correction of the scale of scores: mscale_all_dim. */
function scaleOfYarn(config: ConfigReader): number {
  const parameters = scaledRopeSection(config);
  if (!parameters) return 1;
  const weight = parameters.number("mscale_all_dim", { minimum: 0, nullable: true, unset: 0 });
  if (weight === 0) return 1;
  const factor = parameters.number("factor", { above: 0 });
  return factor <= 1 ? 1 : (0.1 * weight * Math.log(factor) + 1) ** 2;
}

function latentPlaces(
  { hidden, heads }: DecoderSizes,
  { headDim, keyDim, latent }: LatentHeads,
  bias: boolean,
): WeightPlace[] {
  const { queryRank, rank, positionDims, valueDim } = latent;
  const lower = (role: string, first: number, count: number) => {
    const tensor = "self_attn.kv_a_proj_with_mqa";
    const part = narrow(0, first, count);
    const biases = bias ? [stored(`${role}.bias`, `${tensor}.bias`, [rank + positionDims], part)] : [];
    return [stored(`${role}.weight`, `${tensor}.weight`, [rank + positionDims, hidden], part), ...biases];
  };
  const expanded = (role: string, first: number, count: number) =>
    stored(
      `${role}.weight`,
      "self_attn.kv_b_proj.weight",
      [heads * (keyDim + valueDim), rank],
      unflatten(0, [-1, keyDim + valueDim]),
      narrow(1, first, count),
    );
  const queries =
    queryRank === undefined
      ? linear("attn.q", "self_attn.q_proj", heads * headDim, hidden, false)
      : [
          ...linear("attn.q_latent", "self_attn.q_a_proj", queryRank, hidden, bias),
          ...norm("attn.q_latent_norm", "self_attn.q_a_layernorm", queryRank, false),
          ...linear("attn.q", "self_attn.q_b_proj", heads * headDim, queryRank, false),
        ];
  return [
    ...queries,
    ...lower("attn.kv_latent", 0, rank),
    ...lower("attn.k_shared", rank, positionDims),
    ...norm("attn.kv_latent_norm", "self_attn.kv_a_layernorm", rank, false),
    expanded("attn.k", 0, keyDim),
    expanded("attn.v", keyDim, valueDim),
    ...linear("attn.o", "self_attn.o_proj", hidden, heads * valueDim, bias),
  ];
}

function readExperts(config: ConfigReader, hidden: number, { best, ...router }: Router, correction?: string) {
  const size = config.integer("moe_intermediate_size", { maximum: limits.ffn });
  const shared = config.integer("n_shared_experts", { minimum: 0, maximum: limits.experts, nullable: true, unset: 0 });
  const mixture = readMixture(config, hidden, {
    names: {
      ...commonExperts,
      router: "mlp.gate",
      shared: gatedNames("mlp.shared_experts"),
      ...(correction === undefined ? {} : { correction }),
    },
    sizeKey: "moe_intermediate_size",
    router,
    ...(shared > 0 ? { shared: { size: shared * size } } : {}),
  });
  if (best === undefined) return mixture;
  const { count, perToken } = mixture.spec;
  const groups = config.integer("n_group", { maximum: count, nullable: true, unset: 1 });
  const chosen = config.integer("topk_group", { maximum: groups, nullable: true, unset: 1 });
  if (count % groups !== 0) throw config.wrong("n_group", `a divisor of the number of experts, ${count}`);
  if (best > count / groups) throw config.wrong("n_group", `groups of at least ${best} experts`);
  if (perToken > (chosen * count) / groups) throw config.wrong("topk_group", `groups with ${perToken} experts or more`);
  if (groups === 1) return mixture;
  const spec = { ...mixture.spec, router: { ...mixture.spec.router, groups: { count: groups, chosen, best } } };
  return { ...mixture, spec };
}
