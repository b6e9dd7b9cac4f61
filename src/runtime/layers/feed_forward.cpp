#include "runtime/layers/feed_forward.h"

namespace shardspeed {

FeedForwardPart::FeedForwardPart(const PartContext& context) : context_(context) {
  for (size_t kind = 0; kind < context.spec.kinds.size(); ++kind) {
    const LayerShard& held = context.shard.kinds[kind];
    Buffers& buffers = buffers_.emplace_back();
    const auto* experts = std::get_if<ExpertsFeedForward>(&context.spec.kinds[kind].feedForward);
    if (experts)
      buffers.experts = expertsOf({experts->count, experts->perToken, context.spec.hiddenSize, held.neurons.count});
    if (!experts || experts->shared) buffers.inner = innerOf(experts ? held.sharedNeurons.count : held.neurons.count);
  }
}

Activations* FeedForwardPart::innerOf(int64_t neurons) {
  for (const auto& inner : inner_)
    if (inner->cols() == neurons) return inner.get();
  context_.backend.prepareProducts(context_.maxRows, neurons, false);
  inner_.push_back(context_.backend.makeActivations(context_.maxRows, neurons, Width::kNarrow));
  return inner_.back().get();
}

ExpertRows* FeedForwardPart::expertsOf(const ExpertShape& shape) {
  for (const auto& [known, rows] : experts_)
    if (known == shape) return rows.get();
  experts_.emplace_back(shape, context_.backend.makeExpertRows(context_.maxRows, shape));
  return experts_.back().second.get();
}

// act(norm(hidden) W^T), gated or not.
static Projection upward(const Linear& linear, const Norm* norm, ActivationKind activation, bool gated) {
  Projection projection = PartContext::columns(linear, norm);
  projection.activation = activation;
  projection.gated = gated;
  return projection;
}

void FeedForwardPart::read(const Step& step, int64_t layer, const Norm* norm, const Activations& hidden) {
  const auto* dense = std::get_if<DenseFeedForward>(&context_.spec.layer(layer).feedForward);
  if (!dense) return readExperts(step, layer, norm, hidden);
  const auto& weights = std::get<DenseWeights>(context_.layer(layer).feedForward);
  Projection projection = upward(weights.up, norm, dense->activation, dense->gated);
  projection.xielu = weights.xielu;
  context_.backend.project(projection, step.rows, hidden, *buffersOf(layer).inner);
}

void FeedForwardPart::add(const Step& step, int64_t layer, const Norm* next, Activations& hidden) {
  const LayerWeights& weights = context_.layer(layer);
  const auto* dense = std::get_if<DenseWeights>(&weights.feedForward);
  if (!dense) return addExperts(step, layer, next, hidden);
  context_.addPart(step, layer, dense->down, weights.feedForwardOutputNorm, next,
                   context_.weightAfterFeedForward(layer), *buffersOf(layer).inner, hidden);
}

static ExpertsCall expertsCall(const PartContext& context, int64_t layer) {
  const auto& weights = std::get<ExpertsWeights>(context.layer(layer).feedForward);
  ExpertsCall call;
  call.spec = &std::get<ExpertsFeedForward>(context.spec.layer(layer).feedForward);
  call.neurons = context.layerShard(layer).neurons.count;
  call.router = weights.router.weight.get();
  call.routerBias = weights.router.bias.get();
  call.correction = weights.correction.get();
  call.up = weights.up.weight.get();
  call.upBias = weights.up.bias.get();
  call.down = weights.down.weight.get();
  call.downBias = context.shard.rank == 0 ? weights.down.bias.get() : nullptr;
  return call;
}

void FeedForwardPart::readExperts(const Step& step, int64_t layer, const Norm* norm, const Activations& hidden) {
  const auto& [inner, rows] = buffersOf(layer);
  ExpertsCall call = expertsCall(context_, layer);
  call.norm = norm;
  if (inner) {
    const Linear& up = std::get<ExpertsWeights>(context_.layer(layer).feedForward).shared.up;
    context_.backend.project(upward(up, norm, call.spec->activation, call.spec->gated), step.rows, hidden, *inner);
  }
  const bool isGated = inner && call.spec->shared->gated;
  context_.backend.readExperts(call, step.rows, hidden, *rows, isGated ? inner : nullptr);
}

// One sum over the ranks for all experts: rank 0 adds its part to the residual stream, the others have their parts
// alone, and the sum of all is the new stream. What is not added as it comes is summed by itself.
void FeedForwardPart::addExperts(const Step& step, int64_t layer, const Norm* next, Activations& hidden) {
  const auto& [inner, rows] = buffersOf(layer);
  const LayerSpec& kind = context_.spec.layer(layer);
  const LayerWeights& weights = context_.layer(layer);
  const bool isFirst = context_.shard.rank == 0;
  const bool addsAsItComes = PartContext::addsAsItComes(kind);
  Activations& target = addsAsItComes ? hidden : *context_.part;
  context_.backend.addExperts(expertsCall(context_, layer), step.rows, *rows, addsAsItComes && isFirst, target);
  if (inner) {
    Projection down = PartContext::columns(std::get<ExpertsWeights>(weights.feedForward).shared.down, nullptr);
    if (!isFirst) down.bias = nullptr;
    down.residual = true;
    context_.backend.project(down, step.rows, *inner, target);
  }
  if (context_.isDivided()) context_.backend.sumRanks(step.rows, addsAsItComes ? next : nullptr, target);
  if (addsAsItComes) return;
  const Norm* norm = kind.norms.output ? &weights.feedForwardOutputNorm.norm : nullptr;
  context_.backend.addPart(norm, kind.residualScale, step.rows, target, hidden);
}

}  // namespace shardspeed
