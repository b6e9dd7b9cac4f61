#include "cpu/rotary.h"

#include <cmath>

namespace shardspeed {

RotaryTables::RotaryTables(const RotarySpec& spec, int64_t maxPositions) : spec_(spec) {
  fill(spec.inverseFrequencies, spec.amplitude, maxPositions, fixed_);
  if (spec.longer && maxPositions > spec.longer->originalPositions)
    fill(spec.longer->inverseFrequencies, spec.longer->amplitude, maxPositions, long_);
}

void RotaryTables::fill(const std::vector<float>& inverseFrequencies, float amplitude, int64_t positions,
                        Table& table) {
  const size_t half = inverseFrequencies.size();
  table.cosines.resize(static_cast<size_t>(positions) * half);
  table.sines.resize(static_cast<size_t>(positions) * half);
  for (size_t position = 0; position < static_cast<size_t>(positions); ++position) {
    for (size_t j = 0; j < half; ++j) {
      // The product is rounded to fp32, as the models were trained with.
      const float angle = static_cast<float>(position) * inverseFrequencies[j];
      table.cosines[position * half + j] = static_cast<float>(std::cos(static_cast<double>(angle))) * amplitude;
      table.sines[position * half + j] = static_cast<float>(std::sin(static_cast<double>(angle))) * amplitude;
    }
  }
}

const RotaryTables::Table& RotaryTables::forLength(int64_t totalLength) {
  if (spec_.longer && totalLength > spec_.longer->originalPositions) return long_;
  const int64_t original = spec_.dynamicOriginalPositions;
  if (original == 0 || totalLength <= original) return fixed_;
  const auto [entry, isNew] = dynamic_.try_emplace(totalLength);
  if (!isNew) return entry->second;
  fill(dynamicInverseFrequencies(spec_, totalLength), spec_.amplitude, totalLength, entry->second);
  return entry->second;
}

void rotateHead(float* head, const float* cosines, const float* sines, int64_t half, RotaryLayout layout) {
  const auto turn = [&](float& a, float& b, int64_t j) {
    const float first = a;
    const float second = b;
    a = first * cosines[j] - second * sines[j];
    b = second * cosines[j] + first * sines[j];
  };
  if (layout == RotaryLayout::kInterleaved)
    for (int64_t j = 0; j < half; ++j) turn(head[2 * j], head[2 * j + 1], j);
  else
    for (int64_t j = 0; j < half; ++j) turn(head[j], head[j + half], j);
}

}  // namespace shardspeed
