#include "runtime/executor.h"

#include <algorithm>

namespace shardspeed {

Executor::Executor(const ModelSpec& spec, const Shard& shard, const ModelWeights& weights, Backend& backend,
                   KvCache& cache, int64_t maxRows, int64_t maxTokens)
    : spec_(spec),
      shard_(shard),
      weights_(weights),
      backend_(backend),
      cache_(cache),
      logitRows_(std::min(maxRows, kLogitRows)) {
  for (const ActivationShape& shape : activationShapes(spec, shard, maxRows))
    this->*shape.buffer = backend.makeActivations(shape.capacity, shape.cols, shape.width);
  if (shard.size > 1) backend.prepareGroup(groupShapes(spec, shard.size, maxRows));
  backend.prepareSampling(spec.vocabSize, logitRows_);
  AttentionCall call;
  call.shape = {shard.heads.count, shard.kvHeads.count, spec.headDim};
  if (spec.positions == PositionKind::kRotary) {
    backend.prepareRotary({spec.rotary}, maxTokens);
    call.positions = RotaryPositions{2 * static_cast<int64_t>(spec.rotary.inverseFrequencies.size())};
  }
  for (call.layer = 0; call.layer < spec.layers; ++call.layer) {
    call.scale = spec.attentionScales[static_cast<size_t>(call.layer)];
    calls_.push_back(call);
  }
}

std::vector<Executor::ActivationShape> Executor::activationShapes(const ModelSpec& spec, const Shard& shard,
                                                                  int64_t maxRows) {
  const int64_t logitRows = std::min(maxRows, kLogitRows);
  const int64_t queryCols = shard.heads.count * spec.headDim;
  const int64_t keyCols = shard.kvHeads.count * spec.headDim;
  std::vector<ActivationShape> shapes = {
      {maxRows, spec.hiddenSize, Width::kWide, &Executor::hidden_},
      {maxRows, queryCols + 2 * keyCols, Width::kNarrow, &Executor::qkv_},
      {maxRows, queryCols, Width::kNarrow, &Executor::attention_},
      {maxRows, shard.ffn.count, Width::kNarrow, &Executor::ffn_},
      {logitRows, spec.hiddenSize, Width::kWide, &Executor::gathered_},
  };
  if (shard.rank == 0) shapes.push_back({logitRows, spec.vocabSize, Width::kWide, &Executor::logits_});
  if (shard.size > 1) shapes.push_back({logitRows, shard.vocab.count, Width::kWide, &Executor::logitPart_});
  if (spec.embeddingSize != spec.hiddenSize) {
    shapes.push_back({maxRows, spec.embeddingSize, Width::kNarrow, &Executor::embedded_});
    shapes.push_back({logitRows, spec.embeddingSize, Width::kNarrow, &Executor::projected_});
  }
  return shapes;
}

GroupShapes Executor::groupShapes(const ModelSpec& spec, int ranks, int64_t maxRows) {
  GroupShapes shapes{maxRows, spec.hiddenSize, std::min(maxRows, kLogitRows), {}};
  for (int rank = 0; rank < ranks; ++rank) shapes.logitCols.push_back(shardOf(spec, rank, ranks).vocab.count);
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
    if (shard_.rank == 0) deliverLogits(first, std::min(logitRows_, wanted - first), outputs);
  }
  return true;
}

void Executor::embed(const Step& step) {
  if (embedded_) {
    backend_.embedTokens(step, *weights_.tokens, shard_.vocab.first, *embedded_);
    Projection projection;
    projection.weight = weights_.embedProjection.weight.get();
    projection.bias = shard_.rank == 0 ? weights_.embedProjection.bias.get() : nullptr;
    backend_.project(projection, step.rows, *embedded_, *hidden_);
  } else {
    backend_.embedTokens(step, *weights_.tokens, shard_.vocab.first, *hidden_);
  }
  if (weights_.positions) backend_.addPositions(step, *weights_.positions, spec_.positionOffset, *hidden_);
  if (shard_.size > 1) backend_.sumRanks(step.rows, normAhead(0), *hidden_);
}

// The norm that the first projection of a layer begins with.
const Norm* Executor::normAhead(int64_t layer) const {
  if (layer == spec_.layers || spec_.normPlacement != NormPlacement::kPre) return nullptr;
  return &weights_.layers[static_cast<size_t>(layer)].attentionNorm.norm;
}

void Executor::runLayer(const Step& step, int64_t index) {
  const LayerWeights& layer = weights_.layers[static_cast<size_t>(index)];
  const bool normFirst = spec_.normPlacement == NormPlacement::kPre;
  const Norm* ffnNorm = normFirst ? &layer.ffnNorm.norm : nullptr;
  // Column-parallel: every rank computes columns of its own.
  auto project = [&](const Linear& linear, const Norm* norm, Activations& out) {
    Projection projection;
    projection.norm = norm;
    projection.weight = linear.weight.get();
    projection.bias = linear.bias.get();
    if (&linear == &layer.up) {
      projection.activation = spec_.activation;
      projection.gated = spec_.gatedFfn;
    }
    backend_.project(projection, step.rows, *hidden_, out);
  };
  // Row-parallel: every rank adds to the same columns.
  auto addUp = [&](const Linear& linear, const Activations& in, const Norm* next) {
    Projection projection;
    projection.weight = linear.weight.get();
    projection.bias = linear.bias.get();
    projection.residual = true;
    projection.summed = shard_.size > 1;
    projection.next = next;
    backend_.project(projection, step.rows, in, *hidden_);
  };
  project(layer.qkv, normAhead(index), *qkv_);
  backend_.attend(step, calls_[static_cast<size_t>(index)], *qkv_, cache_, *attention_);
  addUp(layer.output, *attention_, ffnNorm);
  if (!normFirst) backend_.normalize(layer.attentionNorm.norm, step.rows, *hidden_);
  project(layer.up, ffnNorm, *ffn_);
  addUp(layer.down, *ffn_, normAhead(index + 1));
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
  Activations& logits = logitPart_ ? *logitPart_ : *logits_;
  backend_.project(head, count, *in, logits);
  if (logitPart_) backend_.gatherLogits(count, *logitPart_, logits_.get());
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
