#pragma once

#include <cmath>
#include <cstdint>
#include <variant>
#include <vector>

namespace shardspeed {

// What the attention of a layer computes, apart from its sizes. lib/native/spec.ts has the same variants.

// Which keys a query at position p sees. Causal: [0, p].
struct CausalMask {};
// [p - size + 1, p] (Mistral, Gemma-2).
struct WindowMask {
  int64_t size = 0;
};
// [p - p % size, p] (Llama 4).
struct ChunkMask {
  int64_t size = 0;
};
// All of the sequence (encoders).
struct FullMask {};
// [p - size, p + size] (ModernBERT).
struct BandMask {
  int64_t size = 0;
};
using AttentionMask = std::variant<CausalMask, WindowMask, ChunkMask, FullMask, BandMask>;

// Whether queries see later tokens: a sequence has to be in a step as a whole then.
inline bool seesLater(const AttentionMask& mask) {
  return std::holds_alternative<FullMask>(mask) || std::holds_alternative<BandMask>(mask);
}

// Which element of a head turns with element j: j + dims / 2 (Llama, GPT-NeoX) or its neighbour (GPT-J, Cohere).
enum class RotaryLayout : uint8_t { kHalf, kInterleaved };

// Attention knows of no positions: they are in the embedding, or nowhere.
struct NoPositions {};
// The first `dims` elements of each query and key head turn; the others stay (partial rotary).
struct RotaryPositions {
  int64_t dims = 0;
  RotaryLayout layout = RotaryLayout::kHalf;
  int64_t table = 0;  // index into ModelSpec::rotaryTables
};
// Adds slope * (key position - query position) to the scaled score of each head (Press et al. 2022).
struct AlibiPositions {
  std::vector<float> slopes;  // (heads) of the whole model
};
// Adds a learned score of each head and bucket of distances to the scaled score (Raffel et al. 2020; MPNet). The
// distance key position - query position is in bucket bucketOf[distance + bucketOf.size() / 2]; what is farther away
// than the table reaches is in the bucket of its end.
struct BucketPositions {
  int64_t buckets = 0;
  std::vector<int32_t> bucketOf;  // an odd number
};
// Adds products with rows of ModelSpec::relativeTable, as the layer's own queries and keys are made of them, to the
// product of a query and a key (He et al. 2020; DeBERTa): of the query with the row of their distance as a key
// (queries), and of the key with that row as a query (keys). `separate`: the layer has matrices for these rows, and its
// queries and keys of tokens are made by others.
struct RelativePositions {
  bool queries = false;
  bool keys = false;
  bool separate = false;
};
using AttentionPositions =
    std::variant<NoPositions, RotaryPositions, AlibiPositions, BucketPositions, RelativePositions>;

// What the norm of queries and keys spans: each head for itself (Qwen3), or all heads of a token (OLMo-2).
enum class QkNormSpan : uint8_t { kHead, kRow };

// Queries, behind all else: q *= 1 + scale ln(1 + floor((position + offset) / period)) (Llama 4, Ministral 3).
struct QueryTemperature {
  float scale = 0;
  int64_t period = 1;
  int64_t offset = 0;
};

// The number that multiplies the query at a position.
inline float factorOf(const QueryTemperature& temperature, int64_t position) {
  const auto periods = static_cast<double>((position + temperature.offset) / temperature.period);
  return static_cast<float>(1 + static_cast<double>(temperature.scale) * std::log1p(periods));
}

}  // namespace shardspeed
