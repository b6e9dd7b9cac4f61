#include "runtime/layers/output.h"

#include <algorithm>

namespace shardspeed {

OutputPart::OutputPart(const PartContext& context)
    : context_(context), head_(context.spec.head()), rows_(std::min(context.maxRows, context.backend.logitRows())) {
  const auto& [spec, shard, weights, backend, maxRows, part] = context;
  gathered_ = backend.makeActivations(rows_, spec.hiddenSize, Width::kWide);
  backend.prepareProducts(rows_, spec.hiddenSize, head_.norm != nullptr);
  if (head_.transform) transformed_ = backend.makeActivations(rows_, head_.width, Width::kWide);
  if (spec.projectsHead()) projected_ = backend.makeActivations(rows_, spec.embedding.width, Width::kNarrow);
  if (!head_.hasMatrix) return;
  backend.prepareProducts(rows_, head_.width, false);
  if (shard.rank == 0) logits_ = backend.makeActivations(rows_, head_.columns, Width::kWide);
  if (shard.size > 1 && head_.isVocabulary) part_ = backend.makeActivations(rows_, shard.vocab.count, Width::kWide);
}

const Norm* OutputPart::finalNorm() const {
  return head_.norm ? &context_.weights.finalNorm.norm : nullptr;
}

bool OutputPart::averages() const {
  const auto* classes = std::get_if<ClassesOutput>(&context_.spec.output);
  return classes && classes->pick == PickedRow::kMean;
}

void OutputPart::compute(const Step& step, int64_t first, const Activations& hidden) {
  const int64_t count = std::min(rows_, step.headRows() - first);
  const auto& [spec, shard, weights, backend, maxRows, part] = context_;
  // Rank 0 alone computes a head that is not divided among ranks.
  if (count <= 0 || head_.columns == 0 || (shard.rank != 0 && !head_.isVocabulary)) return;
  const Norm* norm = finalNorm();
  if (averages()) {
    backend.averageRows(step, first, count, norm, hidden, *gathered_);
    norm = nullptr;
  } else {
    backend.gatherRows(step, first, count, hidden, *gathered_);
  }
  const Activations* in = gathered_.get();
  if (transformed_) {
    Projection transform = PartContext::columns(weights.transform, norm);
    transform.activation = head_.transform->activation;
    backend.project(transform, count, *gathered_, *transformed_);
    if (head_.transform->norm) backend.normalize(weights.transformNorm.norm, count, *transformed_);
    norm = nullptr;
    in = transformed_.get();
  }
  if (projected_) {
    backend.project(PartContext::columns(weights.headProjection, norm), count, *gathered_, *projected_);
    norm = nullptr;
    in = projected_.get();
  }
  if (!head_.hasMatrix) return;
  Projection head;
  head.norm = norm;
  head.weight = &weights.headMatrix();
  head.bias = weights.head.bias.get();
  if (const auto* logits = std::get_if<LogitsOutput>(&spec.output)) {
    head.scale = logits->scale;
    head.softCap = logits->softCap;
  }
  backend.project(head, count, *in, part_ ? *part_ : *logits_);
  if (part_) backend.gatherLogits(count, *part_, logits_.get());
  if (first == 0 && shard.rank == 0) backend.chooseTokens(*logits_);
}

void OutputPart::deliver(int64_t first, int64_t count, const WantedOutputs& outputs) {
  if (head_.columns == 0) return;
  Backend& backend = context_.backend;
  const auto samplers = static_cast<int64_t>(outputs.samplers.size());
  const int64_t sampled = std::clamp<int64_t>(samplers - first, 0, count);
  const int64_t known = std::clamp<int64_t>(samplers + static_cast<int64_t>(outputs.scored.size()) - first, 0, count);
  const int64_t scored = std::max(first - samplers, int64_t{0});  // of the tiles before
  const bool chosen =
      sampled > 0 && backend.sample(*logits_, sampled, outputs.samplers.data() + first, outputs.sampled + first);
  // By the backend also where the host samples: the bits of a score do not depend on others' wishes.
  const bool hasScores = known > sampled && backend.score(*logits_, sampled, known - sampled,
                                                          outputs.scored.data() + scored, outputs.scores + scored);
  if (hasScores && !chosen) deliverRows(first, 0, sampled, outputs);
  deliverRows(first, hasScores ? known : chosen ? sampled : 0, count, outputs);
}

void OutputPart::leave(const WantedOutputs& outputs) {
  context_.backend.leaveSampling(*logits_, static_cast<int64_t>(outputs.samplers.size()), outputs.samplers.data());
}

void OutputPart::deliverRows(int64_t first, int64_t begin, int64_t end, const WantedOutputs& outputs) {
  if (begin == end) return;
  const int64_t columns = head_.columns;
  host_.resize(std::max(host_.size(), static_cast<size_t>(end * columns)));
  context_.backend.readRows(logits_ ? *logits_ : *transformed_, end, host_.data());
  outputs.sink(first + begin, end - begin, host_.data() + begin * columns);
}

void OutputPart::deliverHidden(const Step& step, const Activations& hidden, const WantedOutputs& outputs) {
  Backend& backend = context_.backend;
  const int64_t columns = context_.spec.hiddenSize;
  host_.resize(std::max(host_.size(), static_cast<size_t>(std::min(rows_, step.hiddenRows) * columns)));
  for (int64_t first = 0; first < step.hiddenRows; first += rows_) {
    const int64_t count = std::min(rows_, step.hiddenRows - first);
    backend.gatherRows(step, step.headRows() + first, count, hidden, *gathered_);
    if (const Norm* norm = finalNorm()) backend.normalize(*norm, count, *gathered_);
    backend.readRows(*gathered_, count, host_.data());
    outputs.hiddenSink(first, count, host_.data());
  }
}

}  // namespace shardspeed
