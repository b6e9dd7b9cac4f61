#include "runtime/layers/attention.h"

#include <algorithm>

#include "model/layout.h"

namespace shardspeed {

// Stands for a norm whose weights are not there yet.
static const Norm* standIn(NormKind kind) {
  static const Norm layer{NormKind::kLayer}, rms{NormKind::kRms};
  return kind == NormKind::kLayer ? &layer : &rms;
}

static void sayNorms(const QkNormSpec& spec, const Shard& shard, const LayerShard& held, AttentionCall& call) {
  call.normSpan = spec.span;
  call.queryNorm = call.keyNorm = standIn(spec.norm.kind);
  call.normsHeadsApart = spec.headWeights;
  call.normsAfterPositions = spec.afterPositions;
  // Where ranks share a KV head, the one with its first query heads counts its keys.
  call.countsKeys = shard.size <= call.allKvHeads || held.heads.first % (call.allHeads / call.allKvHeads) == 0;
}

AttentionCall attentionCall(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  const AttentionSpec& attention = spec.layer(layer).attention;
  AttentionCall call;
  // Where no step reads what an earlier one left, one layer's keys and values take the place of the last's.
  call.layer = seesLater(spec) ? 0 : layer;
  call.shape = attentionShape(spec, shard, layer);
  call.scale = attention.scale;
  call.mask = attention.mask;
  call.positions = attention.positions;
  call.softCap = attention.softCap;
  call.clamp = attention.clamp;
  call.temperature = attention.temperature;
  call.allHeads = attention.heads;
  call.allKvHeads = attention.kvHeads;
  call.latent = attention.latent.has_value();
  if (attention.qkNorm) sayNorms(*attention.qkNorm, shard, shard.kinds[spec.kindOf(layer)], call);
  return call;
}

AttentionPart::AttentionPart(const PartContext& context, KvCache& cache)
    : context_(context), cache_(cache), latent_(context) {
  const auto& [spec, shard, weights, backend, maxRows, part] = context;
  for (size_t kind = 0; kind < spec.kinds.size(); ++kind) {
    const auto* alibi = std::get_if<AlibiPositions>(&spec.kinds[kind].attention.positions);
    const Range heads = shard.kinds[kind].heads;
    slopes_.push_back(alibi ? backend.makeVector(alibi->slopes.data() + heads.first, heads.count) : nullptr);
  }
  for (const LayerSpec& kind : spec.kinds) backend.prepareProducts(maxRows, spec.hiddenSize, kind.norms.input);
  int64_t mostQkv = 0, mostQueries = 0;
  for (int64_t layer = 0; layer < spec.layerCount(); ++layer) {
    AttentionCall& call = calls_.emplace_back(attentionCall(spec, shard, layer));
    call.slopes = slopes_[spec.kindOf(layer)].get();
    if (std::holds_alternative<BucketPositions>(call.positions)) {
      call.distanceScores = weights.distanceScores.get();
      call.reach = distanceReach(spec);
    }
    mostQueries = std::max(mostQueries, call.shape.heads * call.shape.headDim);
    mostQkv = std::max(mostQkv, (call.shape.heads + 2 * call.shape.kvHeads) * call.shape.headDim);
  }
  backend.prepareProducts(maxRows, mostQueries, false);
  makeRelativeRows();
  qkv_ = backend.makeActivations(maxRows, mostQkv, Width::kNarrow);
  mixed_ = backend.makeActivations(maxRows, mostQueries, Width::kNarrow);
  const bool sharesRows = std::any_of(calls_.begin(), calls_.end(), [&](const AttentionCall& call) {
    return shard.size > 1 && call.queryNorm && call.normSpan == QkNormSpan::kRow;
  });
  if (sharesRows) squares_ = backend.makeActivations(maxRows, 2, Width::kWide);
}

void AttentionPart::makeRelativeRows() {
  const auto& [spec, shard, weights, backend, maxRows, part] = context_;
  if (!spec.relativeTable) return;
  const int64_t rows = spec.relativeTable->rows;
  relativeTable_ = backend.makeActivations(rows, spec.hiddenSize, Width::kWide);
  relativeRows_.resize(calls_.size());
  backend.prepareRelative(*spec.relativeTable);
  backend.prepareProducts(rows, spec.hiddenSize, false);
  for (int64_t layer = 0; layer < spec.layerCount(); ++layer) {
    AttentionCall& call = calls_[static_cast<size_t>(layer)];
    if (!std::holds_alternative<RelativePositions>(call.positions)) continue;
    const int64_t owner = spec.weightLayer(layer);
    auto& own = relativeRows_[static_cast<size_t>(owner)];
    const auto& [heads, kvHeads, dim] = call.shape;
    if (owner == layer) own = backend.makeActivations(rows, (heads + 2 * kvHeads) * dim, Width::kWide);
    call.relativeRows = own.get();
    call.relativeTable = &*spec.relativeTable;
  }
}

void AttentionPart::fillRelativeRows() {
  const auto& [spec, shard, weights, backend, maxRows, part] = context_;
  const int64_t rows = spec.relativeTable->rows;
  backend.copyTable(*weights.relativeTable, *relativeTable_);
  if (spec.relativeTable->norm) backend.normalize(weights.relativeNorm.norm, rows, *relativeTable_);
  for (int64_t layer = 0; layer < spec.layerCount(); ++layer) {
    const auto& own = relativeRows_[static_cast<size_t>(layer)];
    if (!own) continue;
    const AttentionWeights& attention = context_.layer(layer).attention;
    const Linear& made = attention.relative.weight ? attention.relative : attention.qkv;
    backend.project(PartContext::columns(made, nullptr), rows, *relativeTable_, *own);
  }
  hasRelativeRows_ = true;
}

void AttentionPart::read(const Step& step, int64_t layer, const Norm* norm, const Activations& hidden) {
  if (relativeTable_ && !hasRelativeRows_) fillRelativeRows();
  if (context_.layer(layer).attention.latent) return latent_.read(step, layer, norm, hidden, *qkv_);
  const Linear& qkv = context_.layer(layer).attention.qkv;
  context_.backend.project(PartContext::columns(qkv, norm), step.rows, hidden, *qkv_);
}

void AttentionPart::add(const Step& step, int64_t layer, const Norm* next, Activations& hidden) {
  const LayerWeights& weights = context_.layer(layer);
  AttentionCall& call = calls_[static_cast<size_t>(layer)];
  call.sinks = weights.attention.sinks.get();
  call.nextWeight = weights.attention.output.weight.get();
  if (call.queryNorm) {
    call.queryNorm = &weights.attention.queryNorm.norm;
    call.keyNorm = &weights.attention.keyNorm.norm;
  }
  if (squares_ && call.queryNorm && call.normSpan == QkNormSpan::kRow) {
    context_.backend.squareHeads(call, step.rows, *qkv_, *squares_);
    context_.backend.sumRanks(step.rows, nullptr, *squares_);
    call.squares = squares_.get();
  }
  context_.backend.attend(step, call, *qkv_, cache_, *mixed_);
  const Activations& heads = weights.attention.latent ? latent_.narrow(step, layer, *mixed_) : *mixed_;
  context_.addPart(step, layer, weights.attention.output, weights.attentionOutputNorm, next,
                   context_.weightAfterAttention(layer), heads, hidden);
}

}  // namespace shardspeed
