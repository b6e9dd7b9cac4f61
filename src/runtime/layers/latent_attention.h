#pragma once

#include <memory>
#include <vector>

#include "runtime/layers/part.h"

namespace shardspeed {

// Multi-head latent attention (DeepSeek-V2, 2024, arXiv:2405.04434) around ordinary attention: keys and values are
// expanded from a row that all heads share, and cached for each head as others are. Values, which may be narrower than
// keys, are filled up with zeros to the width of a head, and narrowed again behind attention.
class LatentHeadsPart {
 public:
  explicit LatentHeadsPart(const PartContext& context);

  // Queries, keys and values of the rank's heads, as Backend::attend reads them.
  void read(const Step& step, int64_t layer, const Norm* norm, const Activations& hidden, Activations& qkv);
  // The heads that attention computed, as wide as values are.
  const Activations& narrow(const Step& step, int64_t layer, const Activations& mixed);

 private:
  // The buffers of a kind of layer; kinds of the same sizes share them.
  struct Buffers {
    Activations* queryLatent = nullptr;  // (rows, query rank), null = none
    Activations* queries = nullptr;      // (rows, heads headDim)
    Activations* latent = nullptr;       // (rows, rank)
    Activations* sharedKey = nullptr;    // (rows, positionDims)
    Activations* keysValues = nullptr;   // (rows, heads (headDim - positionDims + valueDim))
    Activations* narrowed = nullptr;     // (rows, heads valueDim)
  };
  Activations* bufferOf(int64_t cols, Width width, int use);
  const Buffers& buffersOf(int64_t layer) const { return buffers_[context_.spec.kindOf(layer)]; }
  LatentHeads headsOf(int64_t layer) const;

  struct Known {
    int64_t cols;
    int use;  // those of different uses are never the same
    std::unique_ptr<Activations> rows;
  };
  const PartContext& context_;
  std::vector<Known> known_;
  std::vector<Buffers> buffers_;  // of each kind
};

}  // namespace shardspeed
