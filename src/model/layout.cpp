#include "model/layout.h"

namespace shardspeed {

std::string layerRole(int64_t layer, const char* name) {
  return "layers." + std::to_string(layer) + "." + name;
}

MatrixLayout plainLayout(const std::string& role, int64_t rows, int64_t cols) {
  return {rows, cols, {{role, rows, 0, kGateBlock}}};
}

MatrixLayout qkvLayout(const ModelSpec& spec, int64_t layer) {
  const int64_t queryRows = spec.heads * spec.headDim;
  const int64_t keyRows = spec.kvHeads * spec.headDim;
  return {queryRows + 2 * keyRows,
          spec.hiddenSize,
          {{layerRole(layer, "attn.q"), queryRows, 0, kGateBlock},
           {layerRole(layer, "attn.k"), keyRows, queryRows, kGateBlock},
           {layerRole(layer, "attn.v"), keyRows, queryRows + keyRows, kGateBlock}}};
}

MatrixLayout outputLayout(const ModelSpec& spec, int64_t layer) {
  return plainLayout(layerRole(layer, "attn.o"), spec.hiddenSize, spec.heads * spec.headDim);
}

MatrixLayout upLayout(const ModelSpec& spec, int64_t layer) {
  const std::string up = layerRole(layer, "mlp.up");
  if (!spec.gatedFfn) return plainLayout(up, spec.ffnSize, spec.hiddenSize);
  const int64_t blocks = (spec.ffnSize + kGateBlock - 1) / kGateBlock;
  return {2 * blocks * kGateBlock,
          spec.hiddenSize,
          {{layerRole(layer, "mlp.gate"), spec.ffnSize, 0, 2 * kGateBlock},
           {up, spec.ffnSize, kGateBlock, 2 * kGateBlock}}};
}

MatrixLayout downLayout(const ModelSpec& spec, int64_t layer) {
  return plainLayout(layerRole(layer, "mlp.down"), spec.hiddenSize, spec.ffnSize);
}

std::vector<MatrixLayout> modelLayouts(const ModelSpec& spec) {
  std::vector<MatrixLayout> layouts = {plainLayout("embed.tokens", spec.vocabSize, spec.embeddingSize)};
  if (!spec.tiedHead) layouts.push_back(plainLayout("head", spec.vocabSize, spec.embeddingSize));
  if (spec.positions == PositionKind::kLearned)
    layouts.push_back(plainLayout("embed.positions", spec.maxPositions + spec.positionOffset, spec.hiddenSize));
  if (spec.embeddingSize != spec.hiddenSize) {
    layouts.push_back(plainLayout("embed.projection", spec.hiddenSize, spec.embeddingSize));
    layouts.push_back(plainLayout("head.projection", spec.embeddingSize, spec.hiddenSize));
  }
  for (int64_t n = 0; n < spec.layers; ++n)
    for (auto make : {qkvLayout, outputLayout, upLayout, downLayout}) layouts.push_back(make(spec, n));
  return layouts;
}

}  // namespace shardspeed
