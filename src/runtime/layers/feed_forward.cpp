#include "runtime/layers/feed_forward.h"

namespace shardspeed {

FeedForwardPart::FeedForwardPart(const PartContext& context) : context_(context) {
  for (const LayerShard& kind : context.shard.kinds) {
    Activations* found = nullptr;
    for (const auto& inner : inner_)
      if (inner->cols() == kind.neurons.count) found = inner.get();
    if (!found) {
      inner_.push_back(context.backend.makeActivations(context.maxRows, kind.neurons.count, Width::kNarrow));
      found = inner_.back().get();
    }
    innerOf_.push_back(found);
  }
}

void FeedForwardPart::read(const Step& step, int64_t layer, const Norm* norm, const Activations& hidden) {
  const auto& dense = std::get<DenseFeedForward>(context_.spec.layer(layer).feedForward);
  const auto& weights = std::get<DenseWeights>(context_.layer(layer).feedForward);
  Projection projection = PartContext::columns(weights.up, norm);
  projection.activation = dense.activation;
  projection.gated = dense.gated;
  context_.backend.project(projection, step.rows, hidden, *innerOf_[context_.spec.kindOf(layer)]);
}

void FeedForwardPart::add(const Step& step, int64_t layer, const Norm* next, Activations& hidden) {
  const LayerWeights& weights = context_.layer(layer);
  const Activations& inner = *innerOf_[context_.spec.kindOf(layer)];
  const Linear& down = std::get<DenseWeights>(weights.feedForward).down;
  context_.addPart(step, layer, down, weights.feedForwardOutputNorm, next, inner, hidden);
}

}  // namespace shardspeed
