#include "runtime/layers/embedding.h"

namespace shardspeed {

EmbeddingPart::EmbeddingPart(const PartContext& context) : context_(context) {
  if (!context.spec.projectsEmbedding()) return;
  const EmbeddingSpec& spec = context.spec.embedding;
  context.backend.prepareProducts(context.maxRows, spec.width, false);
  embedded_ =
      context.backend.makeActivations(context.maxRows, spec.width, spec.projectsLast ? Width::kWide : Width::kNarrow);
}

void EmbeddingPart::run(const Step& step, const Norm* next, Activations& hidden) {
  const auto& [spec, shard, weights, backend, maxRows, part] = context_;
  if (embedded_ && spec.embedding.projectsLast) {
    embedTokens(step, *embedded_);
    finish(step, nullptr, *embedded_);
    return backend.project(PartContext::columns(weights.embedProjection, nullptr), step.rows, *embedded_, hidden);
  }
  if (embedded_) {
    embedTokens(step, *embedded_);
    Projection projection = PartContext::columns(weights.embedProjection, nullptr);
    if (shard.rank != 0) projection.bias = nullptr;  // rows are summed over ranks
    backend.project(projection, step.rows, *embedded_, hidden);
  } else {
    embedTokens(step, hidden);
  }
  finish(step, next, hidden);
}

void EmbeddingPart::embedTokens(const Step& step, Activations& rows) {
  context_.backend.embedTokens(step, *context_.weights.tokens, context_.shard.vocab.first,
                               context_.spec.embedding.scale, rows);
}

void EmbeddingPart::finish(const Step& step, const Norm* next, Activations& rows) {
  const auto& [spec, shard, weights, backend, maxRows, part] = context_;
  if (weights.positions)
    backend.addPositions(step, *weights.positions, positionOffset(*spec.embedding.positions), rows);
  if (weights.tokenTypes) backend.addTokenTypes(step, *weights.tokenTypes, rows);
  const bool normed = spec.embedding.norm.has_value();
  if (context_.isDivided()) backend.sumRanks(step.rows, normed ? nullptr : next, rows);
  if (normed) backend.normalize(weights.embeddingNorm.norm, step.rows, rows);
}

}  // namespace shardspeed
