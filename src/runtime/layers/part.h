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
  int64_t maxRows;  // of a step

  const LayerWeights& layer(int64_t index) const { return weights.layers[static_cast<size_t>(index)]; }
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

  // Row-parallel: every rank adds to the same columns. `next`: as in Projection.
  Projection sum(const Linear& linear, const Norm* next) const {
    Projection projection = columns(linear, nullptr);
    projection.residual = true;
    projection.summed = isDivided();
    projection.next = next;
    return projection;
  }
};

}  // namespace shardspeed
