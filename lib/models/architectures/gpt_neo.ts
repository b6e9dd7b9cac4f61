import type { AttentionMask } from "../../native/spec.js";
import type { ConfigReader } from "../config.js";
import { evenHeads, everyLayer, linear, type ModelDescriptor, norm, stored } from "../descriptor.js";
import { limits } from "../limits.js";
import { activations } from "../parts/activations.js";
import { attention, separateQkv } from "../parts/attention.js";
import { feedForwardPlaces, plainFeedForward } from "../parts/feed_forward.js";
import { ahead, readNorm } from "../parts/norms.js";

/** GPT-Neo (Black et al. 2021), as transformers/models/gpt_neo computes it. */
export const gptNeo: ModelDescriptor = {
  modelType: "gpt_neo",
  summary: "GPT-Neo: layers that see all or a window by turns, scores that are not scaled, learned positions",
  classes: ["GPTNeoForCausalLM"],
  bodyClasses: ["GPTNeoModel"],
  aliases: { num_attention_heads: "num_heads", num_hidden_layers: "num_layers" },
  ignoredKeys: (
    "attention_dropout classifier_dropout embed_dropout initializer_range resid_dropout summary_activation summary_first_dropout " +
    "summary_proj_to_labels summary_type summary_use_proj"
  ).split(" "),
  fixedKeys: {},
  bodyPrefixes: ["transformer.", ""],
  ignoredTensors: [/(^|\.)attn\.attention\.(bias|masked_bias)$/],

  describe(config) {
    const layers = config.integer("num_layers", { maximum: limits.layers, unset: 24 });
    const hidden = config.integer("hidden_size", { maximum: limits.width, unset: 2048 });
    const heads = config.integer("num_heads", { maximum: limits.heads, unset: 16 });
    const sizes = { hidden, heads, kvHeads: heads, headDim: evenHeads(config, "hidden_size", hidden, heads) };
    const vocabSize = config.integer("vocab_size", { maximum: limits.vocabulary, unset: 50_257 });
    const maxPositions = config.integer("max_position_embeddings", { maximum: limits.positions, unset: 2048 });
    const ffn = config.integer("intermediate_size", { maximum: limits.ffn, nullable: true, unset: 4 * hidden });
    const size = config.integer("window_size", { maximum: limits.positions, unset: 256 });
    const layerNorm = readNorm(config, "layer", "layer_norm_epsilon", 1e-5);
    const feedForward = plainFeedForward(ffn, config.choice("activation_function", activations, "gelu_new"));
    const kind = { feedForward, norms: ahead(layerNorm), residual: "sequential" } as const;
    const kindOf = (mask: AttentionMask) => ({ ...kind, attention: attention(sizes, none, { scale: 1, mask }) });
    const locals = readLocals(config, layers);
    const all = [kindOf({ kind: "causal" }), kindOf({ kind: "window", size })];
    const kinds = all.filter((_, index) => locals.includes(index === 1));
    const output = { kind: "logits", tied: config.flag("tie_word_embeddings", true), norm: layerNorm } as const;
    return {
      spec: {
        ...{ family: "gpt_neo", vocabSize, hiddenSize: hidden, maxPositions, kinds, rotaryTables: [], output },
        ...{ embedding: { width: hidden, positions: { kind: "learned", offset: 0 } } },
        layers: locals.map((local) => (local && kinds.length === 2 ? 1 : 0)),
      },
      body: [
        stored("embed.tokens.weight", "wte.weight", [vocabSize, hidden]),
        stored("embed.positions.weight", "wpe.weight", [maxPositions, hidden]),
        ...everyLayer(layers, "h", [
          ...norm("attn.norm", "ln_1", hidden, true),
          ...separateQkv(sizes, projections, false, true),
          ...norm("mlp.norm", "ln_2", hidden, true),
          ...feedForwardPlaces(feedForward, hidden, { up: "mlp.c_fc", down: "mlp.c_proj" }, true),
        ]),
        ...norm("norm", "ln_f", hidden, true),
      ],
      head: linear("head", "lm_head", vocabSize, hidden, false),
    };
  },
};

const none = { kind: "none" } as const;
const at = "attn.attention";
const projections = [`${at}.q_proj`, `${at}.k_proj`, `${at}.v_proj`, `${at}.out_proj`] as const;

/** Which layers see a window only: attention_layers names them one by one, attention_types in runs that repeat. */
function readLocals(config: ConfigReader, layers: number): boolean[] {
  const runs = config.raw("attention_types") ?? [[["global", "local"], 12]];
  const key = config.has("attention_layers") ? "attention_layers" : "attention_types";
  const repeated = (run: unknown): unknown[] => {
    const [names, times]: unknown[] = Array.isArray(run) ? run : [];
    const fits =
      Array.isArray(names) && Number.isInteger(times) && (times as number) >= 0 && (times as number) <= layers;
    return fits
      ? Array(times as number)
          .fill(names)
          .flat()
      : [];
  };
  const found = key === "attention_layers" ? config.raw(key) : Array.isArray(runs) && runs.flatMap(repeated);
  const names = Array.isArray(found) ? found.filter((name) => name === "global" || name === "local") : [];
  if (names.length !== layers || names.length !== (found as unknown[]).length)
    throw config.wrong(key, `"global" or "local" for each of ${layers} layers`);
  return names.map((name) => name === "local");
}
