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
  return rowsOf("embed.tokens", spec.vocabSize, spec.embedding.width, shard.vocab);
}

MatrixLayout headLayout(const ModelSpec& spec, const Shard& shard) {
  return rowsOf("head", spec.vocabSize, spec.embedding.width, shard.vocab);
}

MatrixLayout positionsLayout(const ModelSpec& spec) {
  return plainLayout("embed.positions", spec.maxPositions + positionOffset(*spec.embedding.positions), spec.hiddenSize);
}

static const LayerShard& layerShard(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  return shard.kinds[spec.kindOf(layer)];
}

static Range times(Range range, int64_t factor) {
  return {range.first * factor, range.count * factor};
}

AttentionShape attentionShape(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  const LayerShard& held = layerShard(spec, shard, layer);
  return {held.heads.count, held.kvHeads.count, spec.layer(layer).attention.headDim};
}

MatrixLayout qkvLayout(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  const AttentionSpec& attention = spec.layer(layer).attention;
  const int64_t dim = attention.headDim;
  const Range queries = times(layerShard(spec, shard, layer).heads, dim);
  const Range keys = times(layerShard(spec, shard, layer).kvHeads, dim);
  return {queries.count + 2 * keys.count,
          {0, spec.hiddenSize},
          spec.hiddenSize,
          false,
          {{layerRole(layer, "attn.q"), queries, attention.heads * dim, 0, kGateBlock},
           {layerRole(layer, "attn.k"), keys, attention.kvHeads * dim, queries.count, kGateBlock},
           {layerRole(layer, "attn.v"), keys, attention.kvHeads * dim, queries.count + keys.count, kGateBlock}}};
}

MatrixLayout outputLayout(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  const AttentionSpec& attention = spec.layer(layer).attention;
  return colsOf(layerRole(layer, "attn.o"), spec.hiddenSize, attention.heads * attention.headDim,
                times(layerShard(spec, shard, layer).heads, attention.headDim));
}

MatrixLayout upLayout(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  const auto& dense = std::get<DenseFeedForward>(spec.layer(layer).feedForward);
  const Range held = layerShard(spec, shard, layer).neurons;
  const std::string up = layerRole(layer, "mlp.up");
  if (!dense.gated) return rowsOf(up, dense.size, spec.hiddenSize, held);
  const int64_t blocks = (held.count + kGateBlock - 1) / kGateBlock;
  return {2 * blocks * kGateBlock,
          {0, spec.hiddenSize},
          spec.hiddenSize,
          false,
          {{layerRole(layer, "mlp.gate"), held, dense.size, 0, 2 * kGateBlock},
           {up, held, dense.size, kGateBlock, 2 * kGateBlock}}};
}

MatrixLayout downLayout(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  const auto& dense = std::get<DenseFeedForward>(spec.layer(layer).feedForward);
  return colsOf(layerRole(layer, "mlp.down"), spec.hiddenSize, dense.size, layerShard(spec, shard, layer).neurons);
}

bool holdsPositions(const ModelSpec& spec, const Shard& shard) {
  return spec.embedding.positions.has_value() && shard.rank == 0;
}

std::vector<MatrixLayout> modelLayouts(const ModelSpec& spec, const Shard& shard) {
  std::vector<MatrixLayout> layouts = {tokensLayout(spec, shard)};
  if (!spec.logits().tied) layouts.push_back(headLayout(spec, shard));
  if (holdsPositions(spec, shard) && std::holds_alternative<LearnedPositions>(*spec.embedding.positions))
    layouts.push_back(positionsLayout(spec));
  if (spec.projectsEmbedding()) {
    layouts.push_back(plainLayout("embed.projection", spec.hiddenSize, spec.embedding.width));
    layouts.push_back(plainLayout("head.projection", spec.embedding.width, spec.hiddenSize));
  }
  for (int64_t n = 0; n < spec.layerCount(); ++n)
    for (auto make : {qkvLayout, outputLayout, upLayout, downLayout}) layouts.push_back(make(spec, shard, n));
  return layouts;
}

}  // namespace shardspeed
