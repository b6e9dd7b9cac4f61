#pragma once

#include <memory>
#include <vector>

#include "runtime/layers/latent_attention.h"
#include "runtime/layers/part.h"

namespace shardspeed {

// A layer's attention: queries, keys and values of the rank's heads, attention over the cache, and their way back into
// the residual stream.
class AttentionPart {
 public:
  AttentionPart(const PartContext& context, KvCache& cache);

  // What the layer computes of norm(hidden), norm may be null; nothing is added yet.
  void read(const Step& step, int64_t layer, const Norm* norm, const Activations& hidden);
  // hidden += attention of what was read. next: as in Projection.
  void add(const Step& step, int64_t layer, const Norm* next, Activations& hidden);

 private:
  void makeRelativeRows();
  void fillRelativeRows();

  const PartContext& context_;
  KvCache& cache_;
  LatentHeadsPart latent_;
  std::vector<std::unique_ptr<Vector>> slopes_;  // (heads of the rank) of each kind of layer, null = none
  std::vector<AttentionCall> calls_;             // (layers)
  std::unique_ptr<Activations> qkv_;             // (rows, (heads + 2 kvHeads) headDim)
  std::unique_ptr<Activations> mixed_;           // (rows, heads headDim)
  std::unique_ptr<Activations> squares_;         // (rows, 2), where rows are normalised whose heads several ranks hold
  // The table of relative positions, and queries, keys and values of its rows, which the first step computes for all
  // layers with weights of their own. Null where positions are not relative.
  std::unique_ptr<Activations> relativeTable_;  // (rows, hidden)
  bool hasRelativeRows_ = false;
  std::vector<std::unique_ptr<Activations>> relativeRows_;  // (layers)
};

// The call of a layer, but for its vectors.
AttentionCall attentionCall(const ModelSpec& spec, const Shard& shard, int64_t layer);

}  // namespace shardspeed
