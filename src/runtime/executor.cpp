#include "runtime/executor.h"

#include <algorithm>

namespace shardspeed {

Executor::Executor(const ModelSpec& spec, const ModelWeights& weights, Backend& backend, KvCache& cache,
                   int64_t maxRows, int64_t maxTokens)
    : spec_(spec),
      weights_(weights),
      backend_(backend),
      cache_(cache),
      shape_{spec.heads, spec.kvHeads, spec.headDim},
      logitRows_(std::min(maxRows, kLogitRows)) {
  const auto shapes = activationShapes(spec, maxRows);
  std::unique_ptr<Activations>* const buffers[] = {&hidden_,   &qkv_,    &attention_, &ffn_,
                                                   &gathered_, &logits_, &embedded_,  &projected_};
  for (size_t i = 0; i < shapes.size(); ++i)
    *buffers[i] = backend.makeActivations(shapes[i].capacity, shapes[i].cols, shapes[i].width);
  backend.prepareSampling(spec.vocabSize, logitRows_);
  if (spec.positions == PositionKind::kRotary) backend.prepareRotary(spec.rotary, spec.headDim, maxTokens);
}

std::vector<Executor::ActivationShape> Executor::activationShapes(const ModelSpec& spec, int64_t maxRows) {
  const int64_t logitRows = std::min(maxRows, kLogitRows);
  std::vector<ActivationShape> shapes = {
      {maxRows, spec.hiddenSize, Width::kWide},
      {maxRows, (spec.heads + 2 * spec.kvHeads) * spec.headDim, Width::kNarrow},
      {maxRows, spec.heads * spec.headDim, Width::kNarrow},
      {maxRows, spec.ffnSize, Width::kNarrow},
      {logitRows, spec.hiddenSize, Width::kWide},
      {logitRows, spec.vocabSize, Width::kWide},
  };
  if (spec.embeddingSize != spec.hiddenSize) {
    shapes.push_back({maxRows, spec.embeddingSize, Width::kNarrow});
    shapes.push_back({logitRows, spec.embeddingSize, Width::kNarrow});
  }
  return shapes;
}

bool Executor::run(const Step& step, const Outputs& outputs, const std::atomic<bool>& stop) {
  const bool finished = backend_.runStep(step, [&](const Step& computed) {
    embed(computed);
    for (int64_t layer = 0; layer < spec_.layers; ++layer) {
      if (stop.load(std::memory_order_relaxed)) return false;
      runLayer(computed, layer);
    }
    computeLogits(computed, 0);
    return true;
  });
  if (!finished) return false;
  const auto wanted = static_cast<int64_t>(step.wantedRows.size());
  for (int64_t first = 0; first < wanted; first += logitRows_) {
    if (first > 0) computeLogits(step, first);
    deliverLogits(first, std::min(logitRows_, wanted - first), outputs);
  }
  return true;
}

void Executor::embed(const Step& step) {
  if (embedded_) {
    backend_.embedTokens(step, *weights_.tokens, *embedded_);
    Projection projection;
    projection.weight = weights_.embedProjection.weight.get();
    projection.bias = weights_.embedProjection.bias.get();
    backend_.project(projection, step.rows, *embedded_, *hidden_);
  } else {
    backend_.embedTokens(step, *weights_.tokens, *hidden_);
  }
  if (weights_.positions) backend_.addPositions(step, *weights_.positions, spec_.positionOffset, *hidden_);
}

void Executor::runLayer(const Step& step, int64_t index) {
  const LayerWeights& layer = weights_.layers[static_cast<size_t>(index)];
  const bool normFirst = spec_.normPlacement == NormPlacement::kPre;
  auto project = [&](const Linear& linear, const Norm* norm, bool residual, const Activations& in, Activations& out) {
    Projection projection;
    projection.norm = norm;
    projection.weight = linear.weight.get();
    projection.bias = linear.bias.get();
    projection.residual = residual;
    if (&linear == &layer.up) {
      projection.activation = spec_.activation;
      projection.gated = spec_.gatedFfn;
    }
    backend_.project(projection, step.rows, in, out);
  };
  project(layer.qkv, normFirst ? &layer.attentionNorm.norm : nullptr, false, *hidden_, *qkv_);
  backend_.attend(step, index, shape_, spec_.positions == PositionKind::kRotary,
                  spec_.attentionScales[static_cast<size_t>(index)], *qkv_, cache_, *attention_);
  project(layer.output, nullptr, true, *attention_, *hidden_);
  if (!normFirst) backend_.normalize(layer.attentionNorm.norm, step.rows, *hidden_);
  project(layer.up, normFirst ? &layer.ffnNorm.norm : nullptr, false, *hidden_, *ffn_);
  project(layer.down, nullptr, true, *ffn_, *hidden_);
  if (!normFirst) backend_.normalize(layer.ffnNorm.norm, step.rows, *hidden_);
}

// The tile of logits that starts with the first-th wanted row.
void Executor::computeLogits(const Step& step, int64_t first) {
  const int64_t count = std::min(logitRows_, static_cast<int64_t>(step.wantedRows.size()) - first);
  if (count <= 0) return;
  backend_.gatherRows(step, first, count, *hidden_, *gathered_);
  Projection head;
  head.norm = spec_.finalNorm ? &weights_.finalNorm.norm : nullptr;
  const Activations* in = gathered_.get();
  if (projected_) {
    Projection projection;
    projection.norm = head.norm;
    projection.weight = weights_.headProjection.weight.get();
    projection.bias = weights_.headProjection.bias.get();
    backend_.project(projection, count, *gathered_, *projected_);
    head.norm = nullptr;
    in = projected_.get();
  }
  head.weight = &weights_.headMatrix();
  head.bias = weights_.head.bias.get();
  backend_.project(head, count, *in, *logits_);
}

void Executor::deliverLogits(int64_t first, int64_t count, const Outputs& outputs) {
  int64_t sampled = std::clamp<int64_t>(static_cast<int64_t>(outputs.samplers.size()) - first, 0, count);
  if (sampled > 0 && !backend_.sample(*logits_, sampled, outputs.samplers.data() + first, outputs.sampled + first))
    sampled = 0;
  if (sampled == count) return;
  hostLogits_.resize(static_cast<size_t>(logitRows_ * spec_.vocabSize));
  backend_.readRows(*logits_, count, hostLogits_.data());
  outputs.sink(first + sampled, count - sampled, hostLogits_.data() + sampled * spec_.vocabSize);
}

}  // namespace shardspeed
