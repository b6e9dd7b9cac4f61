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

}  // namespace shardspeed
