#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "model/attention_spec.h"
#include "model/spec.h"

namespace shardspeed {

// cos and sin by position. With dynamic NTK every sequence length past the original one has tables of its own.
class RotaryTables {
 public:
  struct Table {
    std::vector<float> cosines;  // (positions, half)
    std::vector<float> sines;
  };

  RotaryTables() = default;
  RotaryTables(const RotarySpec& spec, int64_t maxPositions);

  // The table for a sequence of so many tokens. Not for several threads at once; what it returns stays until
  // forgetDynamic().
  const Table& forLength(int64_t totalLength);
  // Drops the tables of single lengths: a sequence that grows needs another one every step.
  void forgetDynamic() { dynamic_.clear(); }
  // Of the tables that are made at once.
  static size_t bytesOf(const RotarySpec& spec, int64_t maxPositions) {
    const bool both = spec.longer && maxPositions > spec.longer->originalPositions;
    return (both ? 2 : 1) * 2 * static_cast<size_t>(maxPositions) * spec.inverseFrequencies.size() * sizeof(float);
  }
  int64_t half() const { return static_cast<int64_t>(spec_.inverseFrequencies.size()); }

 private:
  static void fill(const std::vector<float>& inverseFrequencies, float amplitude, int64_t positions, Table& table);

  RotarySpec spec_;
  Table fixed_;
  Table long_;                        // of sequences past the original length, where they have frequencies of their own
  std::map<int64_t, Table> dynamic_;  // by length
};

// Turns the first 2 half elements of one head.
void rotateHead(float* head, const float* cosines, const float* sines, int64_t half, RotaryLayout layout);

}  // namespace shardspeed
