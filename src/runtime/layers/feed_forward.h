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
  // The buffers of a kind of layer; kinds of the same sizes share them.
  struct Buffers {
    Activations* inner = nullptr;  // (rows, neurons of the rank), of the shared expert where there are experts
    ExpertRows* experts = nullptr;
  };
  Activations* innerOf(int64_t neurons);
  ExpertRows* expertsOf(const ExpertShape& shape);
  const Buffers& buffersOf(int64_t layer) const { return buffers_[context_.spec.kindOf(layer)]; }
  void readExperts(const Step& step, int64_t layer, const Norm* norm, const Activations& hidden);
  void addExperts(const Step& step, int64_t layer, const Norm* next, Activations& hidden);

  const PartContext& context_;
  std::vector<std::unique_ptr<Activations>> inner_;
  std::vector<std::pair<ExpertShape, std::unique_ptr<ExpertRows>>> experts_;
  std::vector<Buffers> buffers_;  // of each kind
};

}  // namespace shardspeed
