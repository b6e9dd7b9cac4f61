#pragma once

#include <cstddef>
#include <memory>
#include <variant>
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

// A layer with latent attention has these in place of one matrix of queries, keys and values.
struct LatentWeights {
  Linear queryLatent;  // (query rank, hidden), null where queries come from the residual stream
  NormWeights queryNorm;
  Linear query;      // (heads headDim, query rank or hidden)
  Linear latent;     // (rank, hidden)
  Linear sharedKey;  // (positionDims, hidden)
  NormWeights latentNorm;
  Linear keysValues;  // (heads (headDim - positionDims) + heads valueDim, rank)
};

struct AttentionWeights {
  Linear qkv;       // ((heads + 2 kvHeads) headDim, hidden)
  Linear relative;  // likewise, of rows of distances; null where qkv makes theirs, or there are none
  Linear output;    // (hidden, heads headDim), of values where they are narrower
  NormWeights queryNorm, keyNorm;
  std::unique_ptr<Vector> sinks;          // (heads), null where there are none
  std::unique_ptr<LatentWeights> latent;  // null = none
};

struct DenseWeights {
  Linear up;    // (neurons, hidden), or gate and up interleaved
  Linear down;  // (hidden, neurons)
  XieluNumbers xielu;
};
struct ExpertsWeights {
  Linear router;                       // (experts, hidden), and a row for the shared expert's gate
  std::unique_ptr<Vector> correction;  // (experts), null = none
  Linear up;                           // of all experts, one behind the other
  Linear down;                         // likewise
  DenseWeights shared;                 // null where there is no shared expert
};
using FeedForwardWeights = std::variant<DenseWeights, ExpertsWeights>;

struct LayerWeights {
  NormWeights attentionNorm;
  AttentionWeights attention;
  NormWeights attentionOutputNorm;  // of what attention computes
  NormWeights feedForwardNorm;      // not where the two parts share a norm
  FeedForwardWeights feedForward;
  NormWeights feedForwardOutputNorm;
};

struct ModelWeights {
  std::unique_ptr<Matrix> tokens;      // (vocab, embedding)
  std::unique_ptr<Matrix> positions;   // (positions + offset, hidden), null where none are added
  std::unique_ptr<Matrix> tokenTypes;  // (types, hidden), null where there are none
  Linear embedProjection;              // (hidden, embedding), null where embedding = hidden
  Linear headProjection;               // (embedding, hidden), likewise
  NormWeights embeddingNorm;
  NormWeights finalNorm;
  Linear transform;  // (width of the head, hidden), null where the head has none
  NormWeights transformNorm;
  Linear head;  // (vocab, embedding); null weight = tied to tokens
  // (heads of the rank, 2 distanceReach()), see AttentionCall; null where positions are no buckets.
  std::unique_ptr<Vector> distanceScores;
  std::unique_ptr<Matrix> relativeTable;  // (rows of ModelSpec::relativeTable, hidden), null where there is none
  NormWeights relativeNorm;
  std::vector<LayerWeights> layers;  // those that share another layer's are empty

  const Matrix& headMatrix() const { return head.weight ? *head.weight : *tokens; }
  size_t bytes() const;
};

}  // namespace shardspeed
