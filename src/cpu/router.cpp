#include "cpu/router.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace shardspeed {

namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// The index of the largest value, and never one that was taken; numbers that are none lose against nothing, so that
// there is always one.
int32_t largestOf(const float* values, int64_t count, const int32_t* taken, int64_t takenCount) {
  int32_t best = -1;
  for (int32_t i = 0; i < static_cast<int32_t>(count); ++i) {
    if (best >= 0 && !(values[i] > values[best])) continue;
    if (std::find(taken, taken + takenCount, i) == taken + takenCount) best = i;
  }
  return best;
}

void softmax(float* values, int64_t count) {
  const float most = *std::max_element(values, values + count);
  float sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += values[i] = std::exp(values[i] - most);
  for (int64_t i = 0; i < count; ++i) values[i] /= sum;
}

}  // namespace

void Router::choose(float* logits, int32_t* experts, float* weights) {
  const int64_t count = spec_.count, chosen = spec_.perToken;
  const RouterSpec& router = spec_.router;
  if (router.scoring == RouterScoring::kSparseMixer) {
    chooseNear(logits, experts, weights);
  } else {
    if (router.scoring == RouterScoring::kSoftmax) softmax(logits, count);
    if (router.scoring == RouterScoring::kSigmoid)
      for (int64_t i = 0; i < count; ++i) logits[i] = 1 / (1 + std::exp(-logits[i]));
    ranking_.assign(logits, logits + count);
    if (correction_)
      for (int64_t i = 0; i < count; ++i) ranking_[static_cast<size_t>(i)] += correction_[i];
    if (router.groups) leaveGroups();
    for (int64_t i = 0; i < chosen; ++i) {
      experts[i] = largestOf(ranking_.data(), count, experts, i);
      weights[i] = logits[experts[i]];
    }
    if (router.scoring == RouterScoring::kTopkSoftmax) softmax(weights, chosen);
  }
  if (router.normalise) {
    float sum = 0;
    for (int64_t i = 0; i < chosen; ++i) sum += weights[i];
    // The term of DeepSeek-V3, which is below the precision of any other sum.
    for (int64_t i = 0; i < chosen; ++i) weights[i] /= sum + 1e-20f;
  }
  for (int64_t i = 0; i < chosen; ++i) weights[i] *= router.scale;
}

// transformers, modeling_phimoe.py, sparsemixer, as it is where nothing is trained.
void Router::chooseNear(const float* logits, int32_t* experts, float* weights) {
  const int64_t count = spec_.count;
  ranking_.assign(logits, logits + count);
  for (int64_t i = 0; i < spec_.perToken; ++i) {
    experts[i] = largestOf(ranking_.data(), count, experts, i);
    const float most = logits[experts[i]];
    float sum = 0;
    for (int64_t e = 0; e < count; ++e) {
      const float factor = std::max(std::fabs(logits[e]), most);
      const bool isFar = (most - logits[e]) / factor > 2 * spec_.router.jitter;
      if (!isFar && ranking_[static_cast<size_t>(e)] > kNever) sum += std::exp(logits[e] - most);
    }
    weights[i] = 1 / sum;
    ranking_[static_cast<size_t>(experts[i])] = kNever;
  }
}

// Experts of all groups but the best ones are out of the question.
void Router::leaveGroups() {
  const auto& [count, chosen, best] = *spec_.router.groups;
  const int64_t size = spec_.count / count;
  groups_.clear();
  taken_.resize(static_cast<size_t>(std::max(best, chosen)));
  for (int64_t group = 0; group < count; ++group) {
    const float* scores = ranking_.data() + group * size;
    float sum = 0;
    for (int64_t i = 0; i < best; ++i) {
      taken_[static_cast<size_t>(i)] = largestOf(scores, size, taken_.data(), i);
      sum += scores[taken_[static_cast<size_t>(i)]];
    }
    groups_.push_back(sum);
  }
  const auto kept = taken_.begin();
  for (int64_t i = 0; i < chosen; ++i) kept[i] = largestOf(groups_.data(), count, taken_.data(), i);
  for (int64_t group = 0; group < count; ++group)
    if (std::find(kept, kept + chosen, static_cast<int32_t>(group)) == kept + chosen)
      std::fill_n(ranking_.begin() + group * size, size, kNever);
}

}  // namespace shardspeed
