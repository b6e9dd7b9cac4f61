#include "runtime/executor.h"

#include <algorithm>

namespace shardspeed {

// Null where no layer needs it.
static std::unique_ptr<Activations> makePart(const ModelSpec& spec, Backend& backend, int64_t maxRows) {
  if (std::all_of(spec.kinds.begin(), spec.kinds.end(), PartContext::addsAsItComes)) return nullptr;
  return backend.makeActivations(maxRows, spec.hiddenSize, Width::kWide);
}

Executor::Executor(const ModelSpec& spec, const Shard& shard, const ModelWeights& weights, Backend& backend,
                   KvCache& cache, int64_t maxRows, int64_t maxTokens)
    : shard_(shard),
      part_(makePart(spec, backend, maxRows)),
      context_{spec, shard_, weights, backend, maxRows, part_.get()},
      cache_(cache),
      hidden_(backend.makeActivations(maxRows, spec.hiddenSize, Width::kWide)),
      embedding_(context_),
      attention_(context_, cache),
      feedForward_(context_),
      output_(context_) {
  if (shard.size > 1) backend.prepareGroup(groupShapes(spec, shard.size, maxRows, backend.logitRows()));
  // Where there are no logits to sample from, the host still gets rows of outputs and hidden states.
  const HeadSpec head = spec.head();
  backend.prepareSampling(head.isVocabulary ? spec.vocabSize : std::max(head.columns, spec.hiddenSize), output_.rows());
  if (!spec.rotaryTables.empty()) backend.prepareRotary(spec.rotaryTables, maxTokens);
}

GroupShapes Executor::groupShapes(const ModelSpec& spec, int ranks, int64_t maxRows, int64_t logitRows) {
  GroupShapes shapes{maxRows, std::max(spec.hiddenSize, spec.embeddedWidth()), std::min(maxRows, logitRows), {}};
  for (int rank = 0; rank < ranks; ++rank) shapes.logitCols.push_back(shardOf(spec, rank, ranks).vocab.count);
  return shapes;
}

bool Executor::run(const Step& step, const Outputs& outputs, const std::atomic<bool>& stop) {
  if (!step.copies.empty()) context_.backend.copyPages(step.copies, cache_);
  if (shard_.rank == 0)
    context_.backend.expectSampling(outputs.samplers.data(), static_cast<int64_t>(outputs.samplers.size()));
  const bool finished = context_.backend.runStep(step, [&](const Step& computed) {
    embedding_.run(computed, normAhead(0), *hidden_);
    for (int64_t layer = 0; layer < context_.spec.layerCount(); ++layer) {
      if (stop.load(std::memory_order_relaxed)) return false;
      runLayer(computed, layer);
    }
    output_.compute(computed, 0, *hidden_);
    return true;
  });
  if (!finished) return false;
  if (step.left) {
    if (shard_.rank == 0) output_.leave(outputs);
    return true;
  }
  const int64_t wanted = step.headRows();
  for (int64_t first = 0; first < wanted; first += output_.rows()) {
    if (first > 0) output_.compute(step, first, *hidden_);
    if (shard_.rank == 0) output_.deliver(first, std::min(output_.rows(), wanted - first), outputs);
  }
  if (shard_.rank == 0 && step.hiddenRows > 0) output_.deliverHidden(step, *hidden_, outputs);
  return true;
}

// The norm that the first projection of a layer begins with; null = none.
const Norm* Executor::normAhead(int64_t layer) const {
  if (layer == context_.spec.layerCount()) return nullptr;
  const NormPlacementSpec& norms = context_.spec.layer(layer).norms;
  if (!norms.input || norms.skipsAttention) return nullptr;
  return &context_.layer(layer).attentionNorm.norm;
}

void Executor::runLayer(const Step& step, int64_t index) {
  const LayerWeights& layer = context_.layer(index);
  const Norm* attentionNorm = normAhead(index);
  const bool isNormed = context_.spec.layer(index).norms.input;
  const Norm* feedForwardNorm = isNormed ? &layer.feedForwardNorm.norm : nullptr;
  const Norm* next = normAhead(index + 1);
  switch (context_.spec.layer(index).residual) {
    case Residual::kSequential:
      attention_.read(step, index, attentionNorm, *hidden_);
      attention_.add(step, index, feedForwardNorm, *hidden_);
      feedForward_.read(step, index, feedForwardNorm, *hidden_);
      feedForward_.add(step, index, next, *hidden_);
      break;
    case Residual::kSharedNormParallel:
      feedForwardNorm = attentionNorm;
      [[fallthrough]];
    case Residual::kParallel:
      attention_.read(step, index, attentionNorm, *hidden_);
      feedForward_.read(step, index, feedForwardNorm, *hidden_);
      attention_.add(step, index, nullptr, *hidden_);
      feedForward_.add(step, index, next, *hidden_);
      break;
    case Residual::kPostNorm:
      attention_.read(step, index, nullptr, *hidden_);
      attention_.add(step, index, nullptr, *hidden_);
      context_.backend.normalize(layer.attentionNorm.norm, step.rows, *hidden_);
      feedForward_.read(step, index, nullptr, *hidden_);
      feedForward_.add(step, index, nullptr, *hidden_);
      context_.backend.normalize(layer.feedForwardNorm.norm, step.rows, *hidden_);
      break;
  }
}

}  // namespace shardspeed
