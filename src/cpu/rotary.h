#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "model/attention_spec.h"
#include "model/spec.h"

namespace shardspeed {

// cos and sin by position, made in blocks when a step first needs them: a model may have many more positions than its
// sequences. With dynamic NTK every sequence length past the original one has tables of its own.
class RotaryTables {
 public:
  class Table {
   public:
    Table(std::vector<float> inverseFrequencies, float amplitude)
        : inverseFrequencies_(std::move(inverseFrequencies)), amplitude_(amplitude) {}

    // Makes what is missing of positions [first, end). Not for several threads at once.
    void prepare(int64_t first, int64_t end);
    // (half), of a position that is prepared.
    const float* cosines(int64_t position) const {
      return blocks_[static_cast<size_t>(position / kBlock)].data() + position % kBlock * 2 * half();
    }
    const float* sines(int64_t position) const { return cosines(position) + half(); }
    size_t bytes() const;

   private:
    int64_t half() const { return static_cast<int64_t>(inverseFrequencies_.size()); }

    std::vector<float> inverseFrequencies_;
    float amplitude_;
    std::vector<std::vector<float>> blocks_;  // (kBlock positions; cosines, then sines), empty where not prepared
  };

  explicit RotaryTables(const RotarySpec& spec);

  // The table for a sequence of so many tokens. Not for several threads at once; what it returns stays until
  // forgetDynamic().
  Table& forLength(int64_t totalLength);
  // Drops the tables of single lengths: a sequence that grows needs another one every step.
  void forgetDynamic() { dynamic_.clear(); }
  // The most that tables take which are kept, in sequences of up to so many tokens.
  static size_t bytesOf(const RotarySpec& spec, int64_t maxPositions) {
    const bool both = spec.longer && maxPositions > spec.longer->originalPositions;
    const auto positions = static_cast<size_t>((maxPositions + kBlock - 1) / kBlock * kBlock);
    return (both ? 2 : 1) * 2 * positions * spec.inverseFrequencies.size() * sizeof(float);
  }

 private:
  static constexpr int64_t kBlock = 16;  // positions

  RotarySpec spec_;
  Table fixed_;
  Table long_;                        // of sequences past the original length, where they have frequencies of their own
  std::map<int64_t, Table> dynamic_;  // by length
};

// Turns the first 2 half elements of one head.
void rotateHead(float* head, const float* cosines, const float* sines, int64_t half, RotaryLayout layout);

}  // namespace shardspeed
