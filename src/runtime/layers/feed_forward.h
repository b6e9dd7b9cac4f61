#pragma once

#include <memory>
#include <vector>

#include "runtime/layers/part.h"

namespace shardspeed {

// A layer's feed-forward network, of whichever kind it is.
class FeedForwardPart {
 public:
  explicit FeedForwardPart(const PartContext& context);

  // As in AttentionPart.
  void read(const Step& step, int64_t layer, const Norm* norm, const Activations& hidden);
  void add(const Step& step, int64_t layer, const Norm* next, Activations& hidden);

 private:
  const PartContext& context_;
  std::vector<std::unique_ptr<Activations>> inner_;  // (rows, neurons of the rank) of each kind; alike kinds share one
  std::vector<Activations*> innerOf_;                // of each kind
};

}  // namespace shardspeed
