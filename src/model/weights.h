#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "backend.h"

namespace shardspeed {

// A norm with the vectors that it points to.
struct NormWeights {
  std::unique_ptr<Vector> weight;  // null = ones
  std::unique_ptr<Vector> bias;    // null = zeros
  Norm norm;
};

struct Linear {
  std::unique_ptr<Matrix> weight;
  std::unique_ptr<Vector> bias;  // null = none
};

struct LayerWeights {
  NormWeights attentionNorm;
  Linear qkv;     // ((heads + 2 kvHeads) headDim, hidden)
  Linear output;  // (hidden, heads headDim)
  NormWeights ffnNorm;
  Linear up;    // (ffn, hidden), or gate and up interleaved
  Linear down;  // (hidden, ffn)
};

struct ModelWeights {
  std::unique_ptr<Matrix> tokens;     // (vocab, embedding)
  std::unique_ptr<Matrix> positions;  // (positions + offset, hidden), null where positions are not learned
  Linear embedProjection;             // (hidden, embedding), null where embedding = hidden
  Linear headProjection;              // (embedding, hidden), likewise
  NormWeights finalNorm;
  Linear head;  // (vocab, embedding); null weight = tied to tokens
  std::vector<LayerWeights> layers;

  const Matrix& headMatrix() const { return head.weight ? *head.weight : *tokens; }
  size_t bytes() const;
};

}  // namespace shardspeed
