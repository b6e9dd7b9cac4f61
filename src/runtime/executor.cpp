#include "runtime/executor.h"

#include <algorithm>

namespace shardspeed {

Executor::Executor(const ModelSpec& spec, const ModelWeights& weights, Backend& backend, KvCache& cache,
                   int64_t maxRows, int64_t maxTokens)
    : spec_(spec), weights_(weights), backend_(backend), cache_(cache), shape_{spec.heads, spec.kvHeads, spec.headDim} {
  const bool projected = spec.embeddingSize != spec.hiddenSize;
  const int64_t logitRows = std::min(maxRows, kLogitRows);
  if (projected) embedded_ = backend.makeActivations(maxRows, spec.embeddingSize);
  hidden_ = backend.makeActivations(maxRows, spec.hiddenSize);
  qkv_ = backend.makeActivations(maxRows, (spec.heads + 2 * spec.kvHeads) * spec.headDim);
  attention_ = backend.makeActivations(maxRows, spec.heads * spec.headDim);
  ffn_ = backend.makeActivations(maxRows, spec.ffnSize);
  gathered_ = backend.makeActivations(logitRows, spec.hiddenSize);
  if (projected) projected_ = backend.makeActivations(logitRows, spec.embeddingSize);
  logits_ = backend.makeActivations(logitRows, spec.vocabSize);
  hostLogits_.resize(static_cast<size_t>(logitRows * spec.vocabSize));
  if (spec.positions == PositionKind::kRotary) backend.prepareRotary(spec.rotary, spec.headDim, maxTokens);
}

int64_t Executor::estimateBytes(const ModelSpec& spec, int64_t maxRows, int64_t maxTokens) {
  const int64_t projected = spec.embeddingSize != spec.hiddenSize ? spec.embeddingSize : 0;
  const int64_t logitRows = std::min(maxRows, kLogitRows);
  const int64_t stepColumns =
      projected + spec.hiddenSize + (2 * spec.heads + 2 * spec.kvHeads) * spec.headDim + spec.ffnSize;
  const int64_t logitColumns = spec.hiddenSize + projected + 2 * spec.vocabSize;
  const int64_t rotary = spec.positions == PositionKind::kRotary ? maxTokens * spec.headDim : 0;
  return (maxRows * stepColumns + logitRows * logitColumns + rotary) * static_cast<int64_t>(sizeof(float));
}

bool Executor::run(const Step& step, const std::vector<int64_t>& wantedRows, const LogitSink& sink,
                   const std::atomic<bool>& stop) {
  embed(step);
  for (int64_t layer = 0; layer < spec_.layers; ++layer) {
    if (stop.load(std::memory_order_relaxed)) return false;
    runLayer(step, layer);
  }
  computeLogits(wantedRows, sink);
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

void Executor::computeLogits(const std::vector<int64_t>& wantedRows, const LogitSink& sink) {
  const auto wanted = static_cast<int64_t>(wantedRows.size());
  const int64_t tile = static_cast<int64_t>(hostLogits_.size()) / spec_.vocabSize;
  for (int64_t first = 0; first < wanted; first += tile) {
    const int64_t count = std::min(tile, wanted - first);
    backend_.gatherRows(wantedRows.data() + first, count, *hidden_, *gathered_);
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
    backend_.readRows(*logits_, count, hostLogits_.data());
    sink(first, count, hostLogits_.data());
  }
}

}  // namespace shardspeed
