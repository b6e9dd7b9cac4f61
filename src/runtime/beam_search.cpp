#include "runtime/beam_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "runtime/token_scores.h"

namespace shardspeed {

namespace {

// What transformers adds to a score that must lose against all others.
constexpr float kLost = -1e9f;

}  // namespace

BeamRow rankCandidates(const Sampler& sampler, float* logits, int64_t vocab, int64_t count) {
  BeamRow row;
  const double logSum = logSumExp(logits, vocab);
  if (sampler.params().logprobs > 0) row.top = likeliestTokens(logits, vocab, sampler.params().logprobs, logSum);
  for (int64_t i = 0; i < vocab; ++i) logits[i] = static_cast<float>(static_cast<double>(logits[i]) - logSum);
  const std::vector<float> unchanged(logits, logits + vocab);
  if (!sampler.restrict(logits, vocab)) return row;
  // The worst of those that are kept is at the front of the heap.
  std::vector<BeamCandidate>& best = row.candidates;
  const auto before = [](const BeamCandidate& a, const BeamCandidate& b) {
    return a.score != b.score ? a.score > b.score : a.token < b.token;
  };
  for (int64_t i = 0; i < vocab; ++i) {
    const BeamCandidate one{static_cast<int32_t>(i), logits[i], unchanged[static_cast<size_t>(i)]};
    if (!(one.score > -std::numeric_limits<float>::infinity())) continue;
    if (static_cast<int64_t>(best.size()) == count) {
      if (!before(one, best.front())) continue;
      std::pop_heap(best.begin(), best.end(), before);
      best.pop_back();
    }
    best.push_back(one);
    std::push_heap(best.begin(), best.end(), before);
  }
  std::sort_heap(best.begin(), best.end(), before);
  return row;
}

BeamSearch::BeamSearch(const BeamParams& params, std::vector<int32_t> stopTokens, int64_t maxNewTokens)
    : params_(params),
      stopTokens_(std::move(stopTokens)),
      maxNewTokens_(maxNewTokens),
      kept_(std::max<int64_t>(2, 1 + static_cast<int64_t>(stopTokens_.size())) * params.beams),
      beams_{{{}, 0}} {}

bool BeamSearch::isStop(int32_t token) const {
  return std::find(stopTokens_.begin(), stopTokens_.end(), token) != stopTokens_.end();
}

// The best ones first; of equal ones that of the earlier beam, then that of the smaller token. In the first step there
// are as many beams as in all others, but the same one again and again, which only count where one has too few.
std::vector<BeamSearch::Continuation> BeamSearch::continuations(const std::vector<BeamRow>& rows) const {
  std::vector<Continuation> all;
  const int64_t copies = newTokens_ == 0 ? params_.beams : 1;
  for (int64_t copy = 0; copy < copies; ++copy)
    for (size_t parent = 0; parent < rows.size(); ++parent) {
      const float score = copy == 0 ? beams_[parent].score : kLost;
      for (const BeamCandidate& one : rows[parent].candidates)
        all.push_back(
            {parent, one.token, one.score + score, one.logprob, isStop(one.token) || newTokens_ + 1 == maxNewTokens_});
    }
  std::stable_sort(all.begin(), all.end(),
                   [](const Continuation& a, const Continuation& b) { return a.score > b.score; });
  if (static_cast<int64_t>(all.size()) > kept_) all.resize(static_cast<size_t>(kept_));
  return all;
}

std::vector<SampledToken> BeamSearch::textOf(const Continuation& one, const std::vector<BeamRow>& rows) const {
  std::vector<SampledToken> tokens = beams_[one.parent].tokens;
  SampledToken& last = tokens.emplace_back();
  last.token = one.token;
  last.logprob = one.logprob;
  last.top = rows[one.parent].top;
  return tokens;
}

float BeamSearch::normalized(float score, int64_t length) const {
  const double divisor = std::pow(static_cast<double>(length), static_cast<double>(params_.lengthPenalty));
  return score / static_cast<float>(divisor);
}

std::vector<BeamSearch::Next> BeamSearch::advance(const std::vector<BeamRow>& rows) {
  const std::vector<Continuation> best = continuations(rows);
  std::vector<Beam> beams;
  std::vector<Next> next;
  for (const Continuation& one : best) {
    if (one.ends || static_cast<int64_t>(next.size()) == params_.beams) continue;
    next.push_back({one.parent, one.token});
    beams.push_back({textOf(one, rows), one.score});
  }
  ++newTokens_;
  keepFound(best, rows);
  beams_ = std::move(beams);
  if (beams_.empty() || !canImprove()) return {};
  return next;
}

// Only what ends within the best, as many as there are beams, is a text that has been found: the rest are there to go
// on.
void BeamSearch::keepFound(const std::vector<Continuation>& best, const std::vector<BeamRow>& rows) {
  const auto most = static_cast<size_t>(params_.beams);
  for (size_t i = 0; i < std::min(most, best.size()); ++i)
    if (best[i].ends) found_.push_back({textOf(best[i], rows), normalized(best[i].score, newTokens_)});
  std::stable_sort(found_.begin(), found_.end(),
                   [](const BeamText& a, const BeamText& b) { return a.score > b.score; });
  if (found_.size() > most) found_.resize(most);
}

bool BeamSearch::canImprove() const {
  if (static_cast<int64_t>(found_.size()) < params_.beams) return true;
  if (params_.earlyStopping == EarlyStopping::kYes) return false;
  const bool mayGrow = params_.earlyStopping == EarlyStopping::kNever && params_.lengthPenalty > 0;
  return normalized(beams_.front().score, mayGrow ? maxNewTokens_ : newTokens_) > found_.back().score;
}

}  // namespace shardspeed
