#include "model/layout.h"

namespace shardspeed {

std::string layerRole(int64_t layer, const char* name) {
  return "layers." + std::to_string(layer) + "." + name;
}

// Some rows of one tensor.
static MatrixLayout rowsOf(const std::string& role, int64_t rows, int64_t cols, Range held) {
  return {held.count, {0, cols}, cols, false, {{role, held, rows, 0, kGateBlock}}};
}

// Some columns of one tensor.
static MatrixLayout colsOf(const std::string& role, int64_t rows, int64_t cols, Range held) {
  return {rows, held, cols, true, {{role, {0, rows}, rows, 0, kGateBlock}}};
}

MatrixLayout plainLayout(const std::string& role, int64_t rows, int64_t cols) {
  return rowsOf(role, rows, cols, {0, rows});
}

MatrixLayout tokensLayout(const ModelSpec& spec, const Shard& shard) {
  return rowsOf("embed.tokens", spec.vocabSize, spec.embeddingSize, shard.vocab);
}

MatrixLayout headLayout(const ModelSpec& spec, const Shard& shard) {
  return rowsOf("head", spec.vocabSize, spec.embeddingSize, shard.vocab);
}

MatrixLayout positionsLayout(const ModelSpec& spec) {
  return plainLayout("embed.positions", spec.maxPositions + spec.positionOffset, spec.hiddenSize);
}

MatrixLayout qkvLayout(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  const int64_t dim = spec.headDim;
  const Range queries{shard.heads.first * dim, shard.heads.count * dim};
  const Range keys{shard.kvHeads.first * dim, shard.kvHeads.count * dim};
  return {queries.count + 2 * keys.count,
          {0, spec.hiddenSize},
          spec.hiddenSize,
          false,
          {{layerRole(layer, "attn.q"), queries, spec.heads * dim, 0, kGateBlock},
           {layerRole(layer, "attn.k"), keys, spec.kvHeads * dim, queries.count, kGateBlock},
           {layerRole(layer, "attn.v"), keys, spec.kvHeads * dim, queries.count + keys.count, kGateBlock}}};
}

MatrixLayout outputLayout(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  const int64_t dim = spec.headDim;
  return colsOf(layerRole(layer, "attn.o"), spec.hiddenSize, spec.heads * dim,
                {shard.heads.first * dim, shard.heads.count * dim});
}

MatrixLayout upLayout(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  const std::string up = layerRole(layer, "mlp.up");
  if (!spec.gatedFfn) return rowsOf(up, spec.ffnSize, spec.hiddenSize, shard.ffn);
  const int64_t blocks = (shard.ffn.count + kGateBlock - 1) / kGateBlock;
  return {2 * blocks * kGateBlock,
          {0, spec.hiddenSize},
          spec.hiddenSize,
          false,
          {{layerRole(layer, "mlp.gate"), shard.ffn, spec.ffnSize, 0, 2 * kGateBlock},
           {up, shard.ffn, spec.ffnSize, kGateBlock, 2 * kGateBlock}}};
}

MatrixLayout downLayout(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  return colsOf(layerRole(layer, "mlp.down"), spec.hiddenSize, spec.ffnSize, shard.ffn);
}

bool holdsPositions(const ModelSpec& spec, const Shard& shard) {
  return spec.positions == PositionKind::kLearned && shard.rank == 0;
}

std::vector<MatrixLayout> modelLayouts(const ModelSpec& spec, const Shard& shard) {
  std::vector<MatrixLayout> layouts = {tokensLayout(spec, shard)};
  if (!spec.tiedHead) layouts.push_back(headLayout(spec, shard));
  if (holdsPositions(spec, shard)) layouts.push_back(positionsLayout(spec));
  if (spec.embeddingSize != spec.hiddenSize) {
    layouts.push_back(plainLayout("embed.projection", spec.hiddenSize, spec.embeddingSize));
    layouts.push_back(plainLayout("head.projection", spec.embeddingSize, spec.hiddenSize));
  }
  for (int64_t n = 0; n < spec.layers; ++n)
    for (auto make : {qkvLayout, outputLayout, upLayout, downLayout}) layouts.push_back(make(spec, shard, n));
  return layouts;
}

}  // namespace shardspeed
