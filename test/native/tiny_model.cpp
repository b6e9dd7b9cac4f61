#include "tiny_model.h"

#include <cmath>

#include "stored.h"

namespace shardspeed::test {

TinyModel::TinyModel(ModelSpec spec, DType stored, uint64_t seed, bool biases, bool normWeights)
    : spec_(std::move(spec)), stored_(stored), biases_(biases), normWeights_(normWeights), random_(seed) {
  add("embed.tokens.weight", spec_.vocabSize, spec_.embedding.width, 1);
  if (spec_.embedding.positions && std::holds_alternative<LearnedPositions>(*spec_.embedding.positions))
    add("embed.positions.weight", spec_.maxPositions + positionOffset(*spec_.embedding.positions), spec_.hiddenSize,
        0.5f);
  if (const auto& table = spec_.relativeTable) {
    add("positions.relative.weight", table->rows, spec_.hiddenSize, 1);
    if (table->norm) addNorm("positions.relative_norm", *table->norm, spec_.hiddenSize);
  }
  if (spec_.projectsEmbedding()) {
    addLinear("embed.projection", spec_.hiddenSize, spec_.embedding.width);
    addLinear("head.projection", spec_.embedding.width, spec_.hiddenSize);
  }
  if (spec_.embedding.norm) addNorm("embed.norm", *spec_.embedding.norm, spec_.hiddenSize);
  if (spec_.logits().norm) addNorm("norm", *spec_.logits().norm, spec_.hiddenSize);
  if (!spec_.logits().tied) addLinear("head", spec_.vocabSize, spec_.embedding.width);
  for (int64_t n = 0; n < spec_.layerCount(); ++n) addLayer("layers." + std::to_string(n) + ".", spec_.layer(n));
  std::vector<uint8_t> bytes(10);  // as a header would be
  for (const auto& [role, tensor] : tensors_) {
    WeightView view;
    view.role = role;
    view.tensor = "model." + role;
    view.dtype = stored_;
    view.byteOffset = static_cast<int64_t>(bytes.size());
    view.shape = tensor.rows == 1 ? std::vector<int64_t>{tensor.cols} : std::vector<int64_t>{tensor.rows, tensor.cols};
    view.strides = tensor.rows == 1 ? std::vector<int64_t>{1} : std::vector<int64_t>{tensor.cols, 1};
    plan_.weights.push_back(view);
    for (const float value : tensor.values) appendStored(stored_, value, bytes);
  }
  file_ = std::make_unique<TempFile>(bytes);
  plan_.files.push_back(file_->weightFile());
}

void TinyModel::addLayer(const std::string& layer, const LayerSpec& spec) {
  const AttentionSpec& attention = spec.attention;
  if (spec.norms.input || spec.residual == Residual::kPostNorm) {
    addNorm(layer + "attn.norm", spec.norms.norm, spec_.hiddenSize);
    if (spec.residual != Residual::kSharedNormParallel) addNorm(layer + "mlp.norm", spec.norms.norm, spec_.hiddenSize);
  }
  if (spec.norms.output) {
    addNorm(layer + "attn.out_norm", spec.norms.norm, spec_.hiddenSize);
    addNorm(layer + "mlp.out_norm", spec.norms.norm, spec_.hiddenSize);
  }
  if (attention.latent) {
    addLatent(layer + "attn.", attention);
  } else {
    addLinear(layer + "attn.q", attention.heads * attention.headDim, spec_.hiddenSize);
    addLinear(layer + "attn.k", attention.kvHeads * attention.headDim, spec_.hiddenSize);
    addLinear(layer + "attn.v", attention.kvHeads * attention.headDim, spec_.hiddenSize);
    addLinear(layer + "attn.o", spec_.hiddenSize, attention.heads * attention.headDim);
  }
  if (const auto* relative = std::get_if<RelativePositions>(&attention.positions); relative && relative->separate)
    for (const char* name : {"attn.q_relative", "attn.k_relative"})
      if (name[5] == 'q' ? relative->keys : relative->queries)
        addLinear(layer + name, attention.heads * attention.headDim, spec_.hiddenSize);
  if (const auto& norm = attention.qkNorm) {
    const bool shared = norm->span == QkNormSpan::kHead && !norm->headWeights;
    const int64_t heads = shared ? 1 : attention.heads, kvHeads = shared ? 1 : attention.kvHeads;
    addNorm(layer + "attn.q_norm", norm->norm, heads * attention.headDim);
    addNorm(layer + "attn.k_norm", norm->norm, kvHeads * attention.headDim);
  }
  if (attention.sinks) add(layer + "attn.sinks.weight", 1, attention.heads, 1);
  if (const auto* dense = std::get_if<DenseFeedForward>(&spec.feedForward))
    return addFeedForward(layer + "mlp.", dense->size, dense->gated, dense->activation);
  const auto& experts = std::get<ExpertsFeedForward>(spec.feedForward);
  addLinear(layer + "mlp.router", experts.count, spec_.hiddenSize);
  if (experts.router.correction) add(layer + "mlp.router.correction.weight", 1, experts.count, 0.3f);
  for (int64_t e = 0; e < experts.count; ++e)
    addFeedForward(layer + "mlp.experts." + std::to_string(e) + ".", experts.size, experts.gated, experts.activation);
  if (!experts.shared) return;
  addFeedForward(layer + "mlp.shared.", experts.shared->size, experts.gated, experts.activation);
  if (experts.shared->gated) addLinear(layer + "mlp.shared.router", 1, spec_.hiddenSize);
}

void TinyModel::addFeedForward(const std::string& stem, int64_t size, bool gated, ActivationKind activation) {
  if (activation == ActivationKind::kXielu) add(stem + "xielu.weight", 1, 2, 0.5f);
  if (gated) addLinear(stem + "gate", size, spec_.hiddenSize);
  addLinear(stem + "up", size, spec_.hiddenSize);
  addLinear(stem + "down", spec_.hiddenSize, size);
}

void TinyModel::add(const std::string& role, int64_t rows, int64_t cols, float deviation, float mean) {
  Tensor tensor{rows, cols, {}};
  for (int64_t i = 0; i < rows * cols; ++i)
    tensor.values.push_back(roundedTo(stored_, mean + random_.normal(deviation)));
  tensors_[role] = std::move(tensor);
}

void TinyModel::addLinear(const std::string& role, int64_t rows, int64_t cols) {
  add(role + ".weight", rows, cols, 1 / std::sqrt(static_cast<float>(cols)));
  // Heads and single matrices with a bias beside others without one are all possible.
  if (biases_ && role.find("attn.k") == std::string::npos) add(role + ".bias", 1, rows, 0.3f);
}

void TinyModel::addNorm(const std::string& role, const NormSpec& spec, int64_t width) {
  if (!normWeights_) return;
  add(role + ".weight", 1, width, 0.2f, 1);
  if (spec.kind == NormKind::kLayer) add(role + ".bias", 1, width, 0.2f);
}

void TinyModel::addLatent(const std::string& stem, const AttentionSpec& spec) {
  const LatentAttention& latent = *spec.latent;
  if (latent.queryRank > 0) {
    addLinear(stem + "q_latent", latent.queryRank, spec_.hiddenSize);
    addNorm(stem + "q_latent_norm", latent.norm, latent.queryRank);
  }
  addLinear(stem + "q", spec.heads * spec.headDim, latent.queryRank > 0 ? latent.queryRank : spec_.hiddenSize);
  addLinear(stem + "kv_latent", latent.rank, spec_.hiddenSize);
  addLinear(stem + "k_shared", latent.positionDims, spec_.hiddenSize);
  addNorm(stem + "kv_latent_norm", latent.norm, latent.rank);
  addLinear(stem + "k", spec.heads * (spec.headDim - latent.positionDims), latent.rank);
  addLinear(stem + "v", spec.heads * latent.valueDim, latent.rank);
  addLinear(stem + "o", spec_.hiddenSize, spec.heads * latent.valueDim);
}

}  // namespace shardspeed::test
