#pragma once

#include <optional>
#include <vector>

#include "binding/object_reader.h"
#include "model/spec.h"

namespace shardspeed {

// Functions that the readers of a spec's parts share: binding/spec.cpp, attention_spec.cpp and feed_forward_spec.cpp.

// As lib/models/limits.ts has them: the bytes of any one matrix fit into 64 bits.
constexpr int64_t kMostLayers = 4096;
constexpr int64_t kMostHeads = 16384;
constexpr int64_t kMostHeadDim = 65536;
constexpr int64_t kMostWidth = 1 << 18;
constexpr int64_t kMostNeurons = 1 << 22;
constexpr int64_t kMostExperts = 4096;
constexpr int64_t kMostVocabulary = 1 << 24;
constexpr int64_t kMostPositions = 1 << 27;
constexpr int64_t kMostDistanceScores = 1 << 28;
constexpr int64_t kMostRelativeRows = 1 << 18;

template <typename Read>
auto optional(const ValueReader& value, Read read) -> std::optional<decltype(read(value))> {
  if (value.absent()) return std::nullopt;
  return read(value);
}

inline float number(const ValueReader& value) {
  return static_cast<float>(value.number());
}

// `off` stands in C++ for a value that is absent.
inline float numberOr(const ValueReader& value, float off) {
  return value.absent() ? off : number(value);
}

inline float notNegativeOr(const ValueReader& value, float off) {
  return value.absent() ? off : static_cast<float>(value.number(0));
}

inline bool flagOr(const ValueReader& value, bool off) {
  return value.absent() ? off : value.flag();
}

inline std::vector<float> numbers(const ValueReader& value) {
  std::vector<float> result;
  for (const ValueReader& one : value.list()) result.push_back(number(one));
  return result;
}

inline int64_t readSize(ObjectReader& object, int64_t most) {
  return object["size"].integer(1, most);
}

NormSpec readNorm(const ValueReader& value);
ActivationKind readActivation(const ValueReader& value);
// tables: ModelSpec::rotaryTables
AttentionSpec readAttention(ObjectReader object, const std::vector<RotarySpec>& tables);
FeedForwardSpec readFeedForward(ObjectReader object);

}  // namespace shardspeed
