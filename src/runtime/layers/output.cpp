#include "runtime/layers/output.h"

#include <algorithm>

namespace shardspeed {

LogitsPart::LogitsPart(const PartContext& context) : context_(context), rows_(std::min(context.maxRows, kRows)) {
  const auto& [spec, shard, weights, backend, maxRows, part] = context;
  gathered_ = backend.makeActivations(rows_, spec.hiddenSize, Width::kWide);
  if (shard.rank == 0) logits_ = backend.makeActivations(rows_, spec.vocabSize, Width::kWide);
  if (shard.size > 1) part_ = backend.makeActivations(rows_, shard.vocab.count, Width::kWide);
  if (spec.projectsEmbedding()) projected_ = backend.makeActivations(rows_, spec.embedding.width, Width::kNarrow);
}

void LogitsPart::compute(const Step& step, int64_t first, const Activations& hidden) {
  const int64_t count = std::min(rows_, static_cast<int64_t>(step.wantedRows.size()) - first);
  if (count <= 0) return;
  const auto& [spec, shard, weights, backend, maxRows, part] = context_;
  backend.gatherRows(step, first, count, hidden, *gathered_);
  const Norm* norm = spec.logits().norm ? &weights.finalNorm.norm : nullptr;
  const Activations* in = gathered_.get();
  if (projected_) {
    backend.project(PartContext::columns(weights.headProjection, norm), count, *gathered_, *projected_);
    norm = nullptr;
    in = projected_.get();
  }
  Projection head;
  head.norm = norm;
  head.weight = &weights.headMatrix();
  head.bias = weights.head.bias.get();
  head.scale = spec.logits().scale;
  head.softCap = spec.logits().softCap;
  backend.project(head, count, *in, part_ ? *part_ : *logits_);
  if (part_) backend.gatherLogits(count, *part_, logits_.get());
}

void LogitsPart::deliver(int64_t first, int64_t count, const LogitOutputs& outputs) {
  Backend& backend = context_.backend;
  const int64_t vocab = context_.spec.vocabSize;
  int64_t sampled = std::clamp<int64_t>(static_cast<int64_t>(outputs.samplers.size()) - first, 0, count);
  if (sampled > 0 && !backend.sample(*logits_, sampled, outputs.samplers.data() + first, outputs.sampled + first))
    sampled = 0;
  if (sampled == count) return;
  host_.resize(static_cast<size_t>(rows_ * vocab));
  backend.readRows(*logits_, count, host_.data());
  outputs.sink(first + sampled, count - sampled, host_.data() + sampled * vocab);
}

}  // namespace shardspeed
