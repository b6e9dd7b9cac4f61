#include "runtime/pooling.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace shardspeed {

static bool counts(const Sequence& sequence, Pooling pooling, int64_t position) {
  if (pooling == Pooling::kFirst) return position == sequence.poolFrom;
  if (pooling == Pooling::kLast) return position == sequence.promptLength - 1;
  return position >= sequence.poolFrom;
}

bool isPooled(const Sequence& sequence, int64_t position) {
  const std::vector<Pooling>& poolings = sequence.poolings;
  return poolings.empty() || std::any_of(poolings.begin(), poolings.end(),
                                         [&](Pooling pooling) { return counts(sequence, pooling, position); });
}

// Each token's share: later ones count for more where means are weighted (Muennighoff 2022, arXiv:2202.08904).
static double shareOf(Pooling pooling, int64_t position) {
  return pooling == Pooling::kWeightedMean ? static_cast<double>(position + 1) : 1;
}

static double startOf(Pooling pooling) {
  return pooling == Pooling::kMax ? -std::numeric_limits<double>::infinity() : 0;
}

void addPooled(Sequence& sequence, int64_t position, const float* row, int64_t columns) {
  // A sequence that gave its pages back begins anew.
  if (position == sequence.poolFrom || sequence.pooled.empty()) {
    sequence.pooled.clear();
    for (const Pooling pooling : sequence.poolings)
      sequence.pooled.insert(sequence.pooled.end(), static_cast<size_t>(columns), startOf(pooling));
  }
  double* pooled = sequence.pooled.data();
  for (const Pooling pooling : sequence.poolings) {
    const double share = shareOf(pooling, position);
    for (int64_t k = 0; k < columns && counts(sequence, pooling, position); ++k) {
      const auto value = static_cast<double>(row[k]);
      pooled[k] = pooling == Pooling::kMax ? std::max(pooled[k], value) : pooled[k] + share * value;
    }
    pooled += columns;
  }
}

void finishPooling(Sequence& sequence) {
  if (sequence.pooled.empty()) return;
  const size_t columns = sequence.pooled.size() / sequence.poolings.size();
  for (size_t i = 0; i < sequence.poolings.size(); ++i) {
    const Pooling pooling = sequence.poolings[i];
    double total = 0;
    for (int64_t at = sequence.poolFrom; at < sequence.promptLength; ++at) total += shareOf(pooling, at);
    double divisor = 1;
    if (pooling == Pooling::kMean || pooling == Pooling::kWeightedMean) divisor = total;
    if (pooling == Pooling::kMeanSqrtLength) divisor = std::sqrt(total);
    for (size_t k = i * columns; k < (i + 1) * columns; ++k)
      sequence.hidden[k] = static_cast<float>(sequence.pooled[k] / divisor);
  }
}

}  // namespace shardspeed
