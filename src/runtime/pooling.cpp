#include "runtime/pooling.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace shardspeed {

bool isPooled(const Sequence& sequence, int64_t position) {
  switch (sequence.pooling) {
    case Pooling::kNone:
      return true;
    case Pooling::kFirst:
      return position == sequence.poolFrom;
    case Pooling::kLast:
      return position == sequence.promptLength - 1;
    default:
      return position >= sequence.poolFrom;
  }
}

// Each token's share: later ones count for more where means are weighted (Muennighoff 2022, arXiv:2202.08904).
static double shareOf(const Sequence& sequence, int64_t position) {
  return sequence.pooling == Pooling::kWeightedMean ? static_cast<double>(position + 1) : 1;
}

void addPooled(Sequence& sequence, int64_t position, const float* row, int64_t columns) {
  const bool largest = sequence.pooling == Pooling::kMax;
  const double start = largest ? -std::numeric_limits<double>::infinity() : 0;
  // A sequence that gave its pages back begins anew.
  if (position == sequence.poolFrom || sequence.pooled.empty())
    sequence.pooled.assign(static_cast<size_t>(columns), start);
  const double share = shareOf(sequence, position);
  for (int64_t k = 0; k < columns; ++k) {
    double& pooled = sequence.pooled[static_cast<size_t>(k)];
    const auto value = static_cast<double>(row[k]);
    pooled = largest ? std::max(pooled, value) : pooled + share * value;
  }
}

void finishPooling(Sequence& sequence) {
  if (sequence.pooled.empty()) return;
  double total = 0;
  for (int64_t at = sequence.poolFrom; at < sequence.promptLength; ++at) total += shareOf(sequence, at);
  double divisor = 1;
  if (sequence.pooling == Pooling::kMean || sequence.pooling == Pooling::kWeightedMean) divisor = total;
  if (sequence.pooling == Pooling::kMeanSqrtLength) divisor = std::sqrt(total);
  for (size_t k = 0; k < sequence.pooled.size(); ++k)
    sequence.hidden[k] = static_cast<float>(sequence.pooled[k] / divisor);
}

}  // namespace shardspeed
