#include "runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include "runtime/token_scores.h"

namespace shardspeed {

namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// Uniform in [0, 1): a counter-based generator (splitmix64), so that draw n does not depend on earlier draws.
double uniform(uint64_t seed, uint64_t counter) {
  uint64_t x = seed + (counter + 1) * 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  x ^= x >> 31;
  return static_cast<double>(x >> 11) * 0x1.0p-53;
}

// Of equal logits the smaller token id wins, here and in every ranking.
int32_t argmax(const float* logits, int64_t vocab) {
  int64_t best = 0;
  for (int64_t i = 1; i < vocab; ++i)
    if (logits[i] > logits[best]) best = i;
  return static_cast<int32_t>(best);
}

// Where all logits are minus infinity, the first token that may be chosen.
int32_t likeliest(const float* logits, int64_t vocab, const int32_t* mask) {
  int32_t best = argmax(logits, vocab);
  if (mask == nullptr || logits[best] > kNever) return best;
  for (best = 0; !allows(mask, best);) ++best;
  return best;
}

}  // namespace

Sampler::Sampler(SamplingParams params, const int32_t* prompt, int64_t promptLength)
    : state_{std::move(params), 0, {}, {}, -1} {
  if (state_.params.repetitionPenalty != 1)
    for (int64_t i = 0; i < promptLength; ++i) state_.counts.emplace(prompt[i], 0);
}

bool Sampler::isStop(int32_t token) const {
  return std::find(params().stopTokens.begin(), params().stopTokens.end(), token) != params().stopTokens.end();
}

void Sampler::learn(int32_t token) {
  ++state_.counts[token];
  state_.constraints.accept(token);
  if (--expected_ == 0) state_.unknown = -1;
}

Sampler Sampler::withoutUnused() const {
  Sampler copy(state_.params, nullptr, 0);
  copy.state_.newTokens = state_.newTokens;
  const bool counts =
      params().repetitionPenalty != 1 || params().presencePenalty != 0 || params().frequencyPenalty != 0;
  if (counts) copy.state_.counts = state_.counts;
  copy.state_.constraints = state_.constraints;
  return copy;
}

Sampler Sampler::forDrafts() const {
  Sampler copy = withoutUnused();
  copy.state_.params.logprobs = -1;
  return copy;
}

void Sampler::keepAllowed(std::vector<int32_t>& draft, int64_t vocab) const {
  if (state_.constraints.empty()) return;
  TokenConstraints constraints = state_.constraints;
  std::vector<int32_t> mask(static_cast<size_t>(maskWords(vocab)));
  for (size_t i = 0; i < draft.size(); ++i) {
    if (constraints.fill(mask.data(), vocab) && !allows(mask.data(), draft[i])) return draft.resize(i);
    if (isStop(draft[i])) return draft.resize(i);  // nothing comes behind it
    constraints.accept(draft[i]);
  }
}

SampledToken Sampler::sample(float* logits, int64_t vocab) const {
  SampledToken result;
  result.finite = canChoose(logits, vocab);
  if (!result.finite) return result;
  std::vector<int32_t> words;
  const int32_t* mask = nullptr;
  if (!state_.constraints.empty()) {
    words.resize(static_cast<size_t>(maskWords(vocab)));
    const MaskKind kind = fillMask(state_, vocab, words.data());
    result.blocked = kind == MaskKind::kNothing;
    if (result.blocked) return result;
    if (kind == MaskKind::kSome) mask = words.data();
  }
  double logSum = 0;
  std::vector<float> unchanged;
  if (params().logprobs >= 0) {
    logSum = logSumExp(logits, vocab);
    result.top = likeliestTokens(logits, vocab, params().logprobs, logSum);
    unchanged.assign(logits, logits + vocab);
  }
  applyMask(logits, vocab, mask);
  applyPenalties(logits, vocab, mask != nullptr);
  result.token = params().temperature == 0 ? likeliest(logits, vocab, mask) : draw(logits, vocab, mask);
  if (params().logprobs >= 0)
    result.logprob = static_cast<float>(static_cast<double>(unchanged[static_cast<size_t>(result.token)]) - logSum);
  return result;
}

bool Sampler::restrict(float* scores, int64_t vocab) const {
  std::vector<int32_t> words(static_cast<size_t>(maskWords(vocab)));
  const MaskKind kind = state_.constraints.empty() ? MaskKind::kEverything : fillMask(state_, vocab, words.data());
  if (kind == MaskKind::kNothing) return false;
  const int32_t* mask = kind == MaskKind::kSome ? words.data() : nullptr;
  applyMask(scores, vocab, mask);
  applyPenalties(scores, vocab, mask != nullptr);
  return true;
}

void Sampler::applyMask(float* logits, int64_t vocab, const int32_t* mask) const {
  for (int64_t word = 0; mask && word < maskWords(vocab); ++word) {
    if (mask[word] == -1) continue;
    const auto bits = static_cast<uint32_t>(mask[word]);
    float* own = logits + 32 * word;
    const int64_t count = std::min<int64_t>(32, vocab - 32 * word);
    for (int64_t i = 0; i < count; ++i) own[i] = (bits >> i & 1) != 0 ? own[i] : kNever;  // a form that vectorises
  }
  for (const auto& [token, bias] : params().biases)
    if (token >= 0 && token < vocab) logits[token] += bias;
}

void Sampler::applyPenalties(float* logits, int64_t vocab, bool isMasked) const {
  for (const auto& [token, count] : state_.counts) {
    if (token < 0 || token >= vocab) continue;
    float& logit = logits[token];
    logit = logit > 0 ? logit / params().repetitionPenalty : logit * params().repetitionPenalty;
    if (count > 0) logit -= params().presencePenalty + params().frequencyPenalty * static_cast<float>(count);
  }
  if (!isMasked && state_.newTokens < params().minNewTokens)
    for (const int32_t token : params().stopTokens)
      if (token >= 0 && token < vocab) logits[token] = kNever;
}

int32_t Sampler::draw(const float* logits, int64_t vocab, const int32_t* mask) const {
  std::vector<Candidate> candidates(static_cast<size_t>(vocab));
  float largest = kNever;
  for (int64_t i = 0; i < vocab; ++i) {
    const float logit = logits[i] / params().temperature;
    candidates[static_cast<size_t>(i)] = {logit, static_cast<int32_t>(i)};
    largest = std::max(largest, logit);
  }
  if (!(largest > kNever) || std::isinf(largest) || std::isnan(largest)) return likeliest(logits, vocab, mask);
  const auto before = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  };
  if (params().topK > 0 && params().topK < vocab) {
    std::nth_element(candidates.begin(), candidates.begin() + params().topK - 1, candidates.end(), before);
    candidates.resize(static_cast<size_t>(params().topK));
  }
  auto weight = [&](const Candidate& candidate) {
    return std::exp(static_cast<double>(candidate.logit) - static_cast<double>(largest));
  };
  if (params().topP < 1) {
    double total = 0;
    for (const Candidate& candidate : candidates) total += weight(candidate);
    // The smallest set of the most likely tokens that holds topP of the mass. A few nearly always
    // suffice, so sort prefixes of growing length.
    const double wanted = params().topP * total;
    size_t sorted = 0, kept = 0;
    double mass = 0;
    do {
      if (kept == sorted) {
        const size_t next = std::min(candidates.size(), std::max<size_t>(64, sorted * 8));
        std::partial_sort(candidates.begin() + static_cast<std::ptrdiff_t>(sorted),
                          candidates.begin() + static_cast<std::ptrdiff_t>(next), candidates.end(), before);
        sorted = next;
      }
      mass += weight(candidates[kept++]);
    } while (mass < wanted && kept < candidates.size());
    candidates.resize(kept);
  }
  if (params().minP > 0) {
    const double least = params().minP;  // relative to the most likely, whose weight is 1
    std::erase_if(candidates, [&](const Candidate& candidate) { return weight(candidate) < least; });
  }
  // The draw walks the candidates in order of their ids. Filters may have reordered them: top-p sorts even if it keeps
  // all of them.
  if (params().topP < 1 || candidates.size() < static_cast<size_t>(vocab))
    std::sort(candidates.begin(), candidates.end(),
              [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
  double total = 0;
  for (const Candidate& candidate : candidates) total += weight(candidate);
  double left = uniform(params().seed, static_cast<uint64_t>(state_.newTokens)) * total;
  int32_t last = candidates.back().token;  // that can be chosen: rounding may leave something behind it
  for (const Candidate& candidate : candidates) {
    const double own = weight(candidate);
    left -= own;
    if (left < 0) return candidate.token;
    if (own > 0) last = candidate.token;
  }
  return last;
}

}  // namespace shardspeed
