import { ShardspeedError } from "../../base/errors.js";
import type { Checkpoint, TensorEntry } from "../../checkpoint/types.js";
import type { ModelSpec } from "../../native/spec.js";
import { everyLayer, linear, norm, stored, type WeightPlace } from "../descriptor.js";
import type { ModelDescription } from "../index.js";
import { layerOf } from "../roles.js";
import { select, share, unflatten, type ViewStep } from "./views.js";

/**
 * How Megatron-LM's checkpoints lay out the rows of a fused matrix of queries, keys and values, by version: n heads of d rows each.
 * 0: [3, n, d]; 1: [n, d, 3]; 2: [n, 3, d]. A rank's shard has the same layout with the rank's heads.
 * Source: deepspeed/runtime/state_dict_factory.py, MegatronSDLoader.merge_query_key_value.
 */
function qkvSteps(version: number, part: number, rows: number, headDim: number): ViewStep[] {
  if (version === 0) return [share(0, part * rows, rows, 3 * rows)];
  return [version === 1 ? unflatten(0, [-1, 3]) : unflatten(0, [-1, 3, headDim]), select(1, part)];
}

/** Megatron-LM's GPT: the arithmetic is GPT-2's, only names and layouts differ. */
function megatronPlaces(spec: ModelSpec, version: number): { body: WeightPlace[]; head: WeightPlace[] } {
  const { hiddenSize: hidden, vocabSize, maxPositions } = spec;
  const { attention, feedForward } = layerOf(spec, 0);
  const { headDim } = attention;
  const rows = attention.heads * headDim;
  const fused = "attention.query_key_value";
  const qkv = ["attn.q", "attn.k", "attn.v"].flatMap((role, part) => {
    const steps = qkvSteps(version, part, rows, headDim);
    return [
      stored(`${role}.weight`, `${fused}.weight`, [3 * rows, hidden], ...steps),
      stored(`${role}.bias`, `${fused}.bias`, [3 * rows], ...steps),
    ];
  });
  return {
    body: [
      { ...stored("embed.tokens.weight", "word_embeddings.weight", [vocabSize, hidden]), padded: true },
      stored("embed.positions.weight", "position_embeddings.weight", [maxPositions, hidden]),
      ...everyLayer(spec.layers.length, "layers", [
        ...norm("attn.norm", "input_layernorm", hidden, true),
        ...qkv,
        ...linear("attn.o", "attention.dense", hidden, rows, true),
        ...norm("mlp.norm", "post_attention_layernorm", hidden, true),
        ...linear("mlp.up", "mlp.dense_h_to_4h", feedForward.size, hidden, true),
        ...linear("mlp.down", "mlp.dense_4h_to_h", hidden, feedForward.size, true),
      ]),
      ...norm("norm", "final_layernorm", hidden, true),
    ],
    head: linear("head", "final_linear", vocabSize, hidden, false).map((place) => ({ ...place, padded: true })),
  };
}

/** The names of Megatron-LM and of Megatron-DeepSpeed, of all their versions, as one. */
const renames: readonly [pattern: RegExp, name: string][] = [
  [/^(?:.*\.)?word_embeddings\.weight$/, "word_embeddings.weight"],
  [/^(?:.*\.)?position_embeddings\.weight$/, "position_embeddings.weight"],
  [/^(?:.*\.)?layers\.(\d+)\.(?:self_)?attention\.(.+)$/, "layers.$1.attention.$2"],
  [/^(?:.*\.)?layers\.(\d+)\.(.+)$/, "layers.$1.$2"],
  [/^(?:.*\.)?final_layernorm\.(weight|bias)$/, "final_layernorm.$1"],
  [/^(?:.*\.)?(?:final_linear|output_layer)\.weight$/, "final_linear.weight"],
];

function rename(name: string): string {
  const found = renames.find(([pattern]) => pattern.test(name));
  return found === undefined ? name : name.replace(found[0], found[1]);
}

function renameAll<T>(
  tensors: ReadonlyMap<string, T>,
  path: string,
  apply: (value: T, name: string) => T,
): Map<string, T> {
  const renamed = new Map<string, T>();
  for (const [name, value] of tensors) {
    const plain = rename(name);
    if (renamed.has(plain)) {
      throw new ShardspeedError(
        "ERR_CHECKPOINT",
        `${path} holds ${plain} more than once, one of them as ${name}: it has more than one model.`,
      );
    }
    renamed.set(plain, apply(value, plain));
  }
  return renamed;
}

/**
 * What a description becomes for a Megatron-LM checkpoint: places by its names and layouts. A checkpoint that has the names of the model's
 * own classes stays what it is.
 *
 * @throws ShardspeedError ERR_UNSUPPORTED_MODEL for models that are not Megatron-LM's GPT.
 */
export function readAsMegatron(
  description: ModelDescription,
  checkpoint: Checkpoint,
  version: number,
): { description: ModelDescription; checkpoint: Checkpoint } {
  const isFused = (name: string) => /attention\.query_key_value\.weight$/.test(name);
  const isOwn = description.layout.body.some(({ tensor }) => isFused(tensor));
  if (isOwn || ![...checkpoint.tensors.keys()].some(isFused)) return { description, checkpoint };
  const { spec } = description;
  if (spec.family !== "gpt2") {
    throw new ShardspeedError(
      "ERR_UNSUPPORTED_MODEL",
      `${checkpoint.path} holds Megatron-LM's GPT, expected a config.json with model_type gpt2, found ${spec.family}.`,
    );
  }
  const { pieces, path } = checkpoint;
  const named = (entry: TensorEntry, name: string) => ({ ...entry, name });
  return {
    description: {
      ...description,
      layout: {
        ...megatronPlaces(spec, version),
        renames: [],
        bodyPrefixes: [""],
        ignoredTensors: [/^layers\.\d+\.attention\.(bias|masked_bias)$/, /(^|\.)word_embeddings_for_head\.weight$/],
      },
    },
    checkpoint: {
      ...checkpoint,
      tensors: renameAll(checkpoint.tensors, path, named),
      ...(pieces ? { pieces: renameAll(pieces, path, (own, name) => own.map((entry) => named(entry, name))) } : {}),
    },
  };
}
