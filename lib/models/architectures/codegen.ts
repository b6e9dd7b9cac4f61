import { linear, type ModelDescriptor, stored } from "../descriptor.js";
import { limits } from "../limits.js";
import type { AttentionSizes } from "../parts/attention.js";
import { select, unflatten, type ViewStep } from "../weights/views.js";
import { describeGptj, gptj } from "./gptj.js";

/** The matrix of queries, keys and values is laid out for the four devices that the model was trained on. */
const blocks = 4;

/** CodeGen (Nijkamp et al. 2022, arXiv:2203.13474), as transformers/models/codegen computes it: GPT-J but for one matrix. */
export const codegen: ModelDescriptor = {
  ...gptj,
  modelType: "codegen",
  summary: "CodeGen: GPT-J with queries, values and keys in four blocks of one matrix",
  classes: ["CodeGenForCausalLM"],
  bodyClasses: ["CodeGenModel"],
  ignoredTensors: [/(^|\.)attn\.(bias|masked_bias|causal_mask|scale_attn|embed_positions)$/],

  describe(config) {
    const heads = config.integer("n_head", { maximum: limits.heads, unset: 16 });
    if (heads % blocks !== 0) throw config.wrong("n_head", `a multiple of ${blocks}`);
    return describeGptj("codegen", config, (sizes) => [
      ...qkvInBlocks(sizes),
      ...linear("attn.o", "attn.out_proj", sizes.hidden, sizes.hidden, false),
    ]);
  },
};

/** Of each block a quarter of all queries, of all values, of all keys. A shard that is cut within a block is one block by itself. */
function qkvInBlocks({ hidden, heads, headDim }: AttentionSizes) {
  const part = (heads / blocks) * headDim;
  const inBlocks: ViewStep = (view) => {
    const [rows = 0] = view.shape;
    return unflatten(0, rows % (3 * part) === 0 ? [-1, 3, part] : [1, 3, rows / 3])(view);
  };
  const parts = { "attn.q": 0, "attn.v": 1, "attn.k": 2 };
  return Object.entries(parts).map(([role, index]) =>
    stored(`${role}.weight`, "attn.qkv_proj.weight", [3 * hidden, hidden], inBlocks, select(1, index)),
  );
}
