#include "product_cases.h"

namespace shardspeed::bench {

std::vector<ProductCase> productCases(const ModelShape& model) {
  const int64_t attention = model.heads * model.headDim;
  const int64_t qkv = attention + 2 * model.kvHeads * model.headDim;
  ProductCase up{model.isLlama ? "norm+gate_up+silu" : "norm+up+relu", model.isLlama ? 2 * model.ffn : model.ffn,
                 model.hidden};
  up.normed = true;
  up.gated = model.isLlama;
  up.activation = model.isLlama ? ActivationKind::kSilu : ActivationKind::kRelu;
  ProductCase head{"norm+head", model.vocab, model.hidden};
  head.normed = head.logits = true;
  ProductCase query{"norm+qkv", qkv, model.hidden};
  query.normed = true;
  ProductCase output{"output+residual", model.hidden, attention};
  ProductCase down{"down+residual", model.hidden, model.ffn};
  output.residual = down.residual = true;
  return {query, output, up, down, head};
}

}  // namespace shardspeed::bench
