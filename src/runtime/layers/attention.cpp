#include "runtime/layers/attention.h"

#include <algorithm>

#include "model/layout.h"

namespace shardspeed {

AttentionCall attentionCall(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  const AttentionSpec& attention = spec.layer(layer).attention;
  AttentionCall call;
  call.layer = layer;
  call.shape = attentionShape(spec, shard, layer);
  call.scale = attention.scale;
  call.mask = attention.mask;
  call.positions = attention.positions;
  call.softCap = attention.softCap;
  call.clamp = attention.clamp;
  return call;
}

AttentionPart::AttentionPart(const PartContext& context, KvCache& cache) : context_(context), cache_(cache) {
  const auto& [spec, shard, weights, backend, maxRows, part] = context;
  for (size_t kind = 0; kind < spec.kinds.size(); ++kind) {
    const auto* alibi = std::get_if<AlibiPositions>(&spec.kinds[kind].attention.positions);
    const Range heads = shard.kinds[kind].heads;
    slopes_.push_back(alibi ? backend.makeVector(alibi->slopes.data() + heads.first, heads.count) : nullptr);
  }
  int64_t mostQkv = 0, mostQueries = 0;
  for (int64_t layer = 0; layer < spec.layerCount(); ++layer) {
    AttentionCall& call = calls_.emplace_back(attentionCall(spec, shard, layer));
    call.slopes = slopes_[spec.kindOf(layer)].get();
    mostQueries = std::max(mostQueries, call.shape.heads * call.shape.headDim);
    mostQkv = std::max(mostQkv, (call.shape.heads + 2 * call.shape.kvHeads) * call.shape.headDim);
  }
  qkv_ = backend.makeActivations(maxRows, mostQkv, Width::kNarrow);
  mixed_ = backend.makeActivations(maxRows, mostQueries, Width::kNarrow);
}

void AttentionPart::read(const Step& step, int64_t layer, const Norm* norm, const Activations& hidden) {
  const Linear& qkv = context_.layer(layer).attention.qkv;
  context_.backend.project(PartContext::columns(qkv, norm), step.rows, hidden, *qkv_);
}

void AttentionPart::add(const Step& step, int64_t layer, const Norm* next, Activations& hidden) {
  context_.backend.attend(step, calls_[static_cast<size_t>(layer)], *qkv_, cache_, *mixed_);
  const LayerWeights& weights = context_.layer(layer);
  context_.addPart(step, layer, weights.attention.output, weights.attentionOutputNorm, next, *mixed_, hidden);
}

}  // namespace shardspeed
