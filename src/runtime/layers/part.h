#pragma once

#include "backend.h"
#include "model/shard.h"
#include "model/spec.h"
#include "model/weights.h"

namespace shardspeed {

// What the parts of a model have in common on one rank. Parts make their activations when they are constructed; nothing
// of the weights is looked at before the first step.
struct PartContext {
  const ModelSpec& spec;
  const Shard& shard;
  const ModelWeights& weights;
  Backend& backend;
  int64_t maxRows;              // of a step
  Activations* part = nullptr;  // (rows, hidden) for what a part computes, where it is not added as it comes

  const LayerWeights& layer(int64_t index) const {
    return weights.layers[static_cast<size_t>(spec.weightLayer(index))];
  }
  const LayerShard& layerShard(int64_t index) const { return shard.kinds[spec.kindOf(index)]; }
  bool isDivided() const { return shard.size > 1; }

  // Column-parallel: every rank computes columns of its own.
  static Projection columns(const Linear& linear, const Norm* norm) {
    Projection projection;
    projection.norm = norm;
    projection.weight = linear.weight.get();
    projection.bias = linear.bias.get();
    return projection;
  }

  // The weight of the product that follows the last one of a layer's attention, or of its feed-forward, on the same
  // rows; null where that is none of its own, as of experts.
  const Matrix* weightAfterAttention(int64_t index) const {
    const auto* dense = std::get_if<DenseWeights>(&layer(index).feedForward);
    const Residual residual = spec.layer(index).residual;
    const bool isRead = residual == Residual::kParallel || residual == Residual::kSharedNormParallel;
    return !dense ? nullptr : isRead ? dense->down.weight.get() : dense->up.weight.get();
  }
  const Matrix* weightAfterFeedForward(int64_t index) const {
    return index + 1 < spec.layerCount() ? layer(index + 1).attention.qkv.weight.get() : nullptr;
  }

  // Row-parallel: every rank adds to the same columns. hidden += what a part of a layer computes, by its output norm
  // and its scale. `next` and `nextWeight`: as in Projection.
  void addPart(const Step& step, int64_t index, const Linear& linear, const NormWeights& outputNorm, const Norm* next,
               const Matrix* nextWeight, const Activations& in, Activations& hidden) const {
    const LayerSpec& kind = spec.layer(index);
    Projection projection = columns(linear, nullptr);
    projection.summed = isDivided();
    projection.nextWeight = nextWeight;
    if (addsAsItComes(kind)) {
      projection.residual = true;
      projection.next = next;
      return backend.project(projection, step.rows, in, hidden);
    }
    backend.project(projection, step.rows, in, *part);
    const Norm* norm = kind.norms.output ? &outputNorm.norm : nullptr;
    backend.addPart(norm, kind.residualScale, step.rows, *part, hidden);
  }
  static bool addsAsItComes(const LayerSpec& kind) { return !kind.norms.output && kind.residualScale == 1; }
};

}  // namespace shardspeed
