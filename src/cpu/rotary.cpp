#include "cpu/rotary.h"

#include <cmath>

namespace shardspeed {

RotaryTables::RotaryTables(const RotarySpec& spec)
    : spec_(spec),
      fixed_(spec.inverseFrequencies, spec.amplitude),
      long_(spec.longer ? Table(spec.longer->inverseFrequencies, spec.longer->amplitude) : Table({}, 1)) {}

void RotaryTables::Table::prepare(int64_t first, int64_t end) {
  const auto lastBlock = static_cast<size_t>((end + kBlock - 1) / kBlock);
  if (blocks_.size() < lastBlock) blocks_.resize(lastBlock);
  for (auto index = static_cast<size_t>(first / kBlock); index < lastBlock; ++index) {
    if (!blocks_[index].empty()) continue;
    std::vector<float> block;
    block.reserve(static_cast<size_t>(kBlock * 2 * half()));
    for (size_t position = index * kBlock; position < (index + 1) * kBlock; ++position) {
      // The product is rounded to fp32, as the models were trained with.
      const auto add = [&](double (*function)(double)) {
        for (const float frequency : inverseFrequencies_) {
          const float angle = static_cast<float>(position) * frequency;
          block.push_back(static_cast<float>(function(static_cast<double>(angle))) * amplitude_);
        }
      };
      add(std::cos);
      add(std::sin);
    }
    blocks_[index] = std::move(block);
  }
}

size_t RotaryTables::Table::bytes() const {
  size_t floats = 0;
  for (const std::vector<float>& block : blocks_) floats += block.size();
  return floats * sizeof(float);
}

RotaryTables::Table& RotaryTables::forLength(int64_t totalLength) {
  if (spec_.longer && totalLength > spec_.longer->originalPositions) return long_;
  const int64_t original = spec_.dynamicOriginalPositions;
  if (original == 0 || totalLength <= original) return fixed_;
  const auto known = dynamic_.find(totalLength);
  if (known != dynamic_.end()) return known->second;
  Table table(dynamicInverseFrequencies(spec_, totalLength), spec_.amplitude);
  return dynamic_.emplace(totalLength, std::move(table)).first->second;
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
