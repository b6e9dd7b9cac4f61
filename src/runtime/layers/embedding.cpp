#include "runtime/layers/embedding.h"

namespace shardspeed {

EmbeddingPart::EmbeddingPart(const PartContext& context) : context_(context) {
  if (context.spec.projectsEmbedding())
    embedded_ = context.backend.makeActivations(context.maxRows, context.spec.embedding.width, Width::kNarrow);
}

void EmbeddingPart::run(const Step& step, const Norm* next, Activations& hidden) {
  const auto& [spec, shard, weights, backend, maxRows, part] = context_;
  if (embedded_) {
    backend.embedTokens(step, *weights.tokens, shard.vocab.first, spec.embedding.scale, *embedded_);
    Projection projection = PartContext::columns(weights.embedProjection, nullptr);
    if (shard.rank != 0) projection.bias = nullptr;  // rows are summed over ranks
    backend.project(projection, step.rows, *embedded_, hidden);
  } else {
    backend.embedTokens(step, *weights.tokens, shard.vocab.first, spec.embedding.scale, hidden);
  }
  if (weights.positions)
    backend.addPositions(step, *weights.positions, positionOffset(*spec.embedding.positions), hidden);
  const bool normed = spec.embedding.norm.has_value();
  if (context_.isDivided()) backend.sumRanks(step.rows, normed ? nullptr : next, hidden);
  if (normed) backend.normalize(weights.embeddingNorm.norm, step.rows, hidden);
}

}  // namespace shardspeed
