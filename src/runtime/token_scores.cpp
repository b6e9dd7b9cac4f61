#include "runtime/token_scores.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace shardspeed {

// A comparison with NaN is false.
bool canChoose(const float* logits, int64_t vocab) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  bool sound = true, any = false;
  for (int64_t i = 0; i < vocab; ++i) {
    sound &= logits[i] < infinity;
    any |= logits[i] > -infinity;
  }
  return sound && any;
}

double logSumExp(const float* logits, int64_t vocab) {
  const double largest = *std::max_element(logits, logits + vocab);
  double sum = 0;
  for (int64_t i = 0; i < vocab; ++i) sum += std::exp(static_cast<double>(logits[i]) - largest);
  return largest + std::log(sum);
}

static float logprobOf(float logit, double logSum) {
  return static_cast<float>(static_cast<double>(logit) - logSum);
}

std::vector<TokenLogprob> likeliestTokens(const float* logits, int64_t vocab, int64_t count, double logSum) {
  const auto most = static_cast<size_t>(std::min(count, vocab));
  std::vector<TokenLogprob> top;
  if (most == 0) return top;
  const auto before = [&](int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; };
  // A heap with the last of them in front: few tokens pass it.
  std::vector<int32_t> heap(most);
  for (size_t i = 0; i < most; ++i) heap[i] = static_cast<int32_t>(i);
  std::make_heap(heap.begin(), heap.end(), before);
  for (auto token = static_cast<int32_t>(most); token < vocab; ++token) {
    if (!(logits[token] > logits[heap.front()])) continue;  // of equals the first are in the heap
    std::pop_heap(heap.begin(), heap.end(), before);
    heap.back() = token;
    std::push_heap(heap.begin(), heap.end(), before);
  }
  std::sort_heap(heap.begin(), heap.end(), before);
  for (const int32_t token : heap) top.push_back({token, logprobOf(logits[token], logSum)});
  return top;
}

TokenScore scoreToken(const ScoreWish& wish, const float* logits, int64_t vocab) {
  TokenScore score;
  score.finite = canChoose(logits, vocab);
  if (!score.finite) return score;
  const double logSum = logSumExp(logits, vocab);
  const float own = logits[wish.token];
  score.logprob = logprobOf(own, logSum);
  for (int64_t i = 0; i < vocab; ++i) score.rank += logits[i] > own || (logits[i] == own && i < wish.token) ? 1 : 0;
  ++score.rank;
  score.top = likeliestTokens(logits, vocab, wish.top, logSum);
  return score;
}

}  // namespace shardspeed
