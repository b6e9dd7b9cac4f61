#include "model/spec.h"

#include <cmath>

namespace shardspeed {

int64_t positionOffset(const EmbeddingPositions& positions) {
  return std::visit([](const auto& one) { return one.offset; }, positions);
}

std::vector<float> dynamicInverseFrequencies(const RotarySpec& spec, int64_t totalLength) {
  const auto original = static_cast<double>(spec.dynamicOriginalPositions);
  const auto dim = static_cast<double>(2 * spec.inverseFrequencies.size());
  const double growth = spec.dynamicFactor * static_cast<double>(totalLength) / original - (spec.dynamicFactor - 1);
  const double base = spec.dynamicBase * std::pow(growth, dim / (dim - 2));
  std::vector<float> inverseFrequencies(spec.inverseFrequencies.size());
  for (size_t j = 0; j < inverseFrequencies.size(); ++j)
    inverseFrequencies[j] = static_cast<float>(1.0 / std::pow(base, static_cast<double>(2 * j) / dim));
  return inverseFrequencies;
}

std::vector<int64_t> longOriginalPositions(const ModelSpec& spec) {
  std::vector<int64_t> all;
  for (const RotarySpec& table : spec.rotaryTables)
    if (table.longer) all.push_back(table.longer->originalPositions);
  return all;
}

int64_t dynamicOriginalPositions(const ModelSpec& spec) {
  int64_t least = 0;
  for (const RotarySpec& table : spec.rotaryTables)
    if (table.dynamicOriginalPositions > 0 && (least == 0 || table.dynamicOriginalPositions < least))
      least = table.dynamicOriginalPositions;
  return least;
}

}  // namespace shardspeed
