#include "expert_reference.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace shardspeed::test {
namespace {

// Indices by descending value, of equal ones the lower first.
std::vector<size_t> descending(const std::vector<double>& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] > values[b]; });
  return order;
}

// The experts that are left of `logits` and near to the largest: what sparsemixer's softmax is over.
double sparseShare(const std::vector<double>& logits, const std::vector<bool>& gone, size_t chosen, double jitter) {
  double sum = 0;
  for (size_t e = 0; e < logits.size(); ++e)
    if (!gone[e] && (logits[chosen] - logits[e]) / std::max(std::fabs(logits[e]), logits[chosen]) <= 2 * jitter)
      sum += std::exp(logits[e] - logits[chosen]);
  return 1 / sum;
}

}  // namespace

std::vector<std::pair<size_t, double>> routed(const ExpertsFeedForward& spec, const std::vector<double>& logits,
                                              const std::vector<double>& correction) {
  const RouterSpec& router = spec.router;
  const auto perToken = static_cast<size_t>(spec.perToken);
  std::vector<std::pair<size_t, double>> result;
  std::vector<double> scores = logits, ranking;
  double sum = 0;
  switch (router.scoring) {
    case RouterScoring::kSoftmax:
      for (const double logit : logits) sum += std::exp(logit);
      for (double& score : scores) score = std::exp(score) / sum;
      break;
    case RouterScoring::kSigmoid:
      for (double& score : scores) score = 1 / (1 + std::exp(-score));
      break;
    case RouterScoring::kTopkSoftmax:
    case RouterScoring::kSparseMixer:
      break;
  }
  ranking = scores;
  for (size_t e = 0; e < correction.size(); ++e) ranking[e] += correction[e];
  if (router.groups) {
    const auto size = static_cast<size_t>(spec.count / router.groups->count);
    std::vector<double> sums;
    for (size_t first = 0; first < ranking.size(); first += size) {
      std::vector<double> best(ranking.begin() + static_cast<std::ptrdiff_t>(first),
                               ranking.begin() + static_cast<std::ptrdiff_t>(first + size));
      std::sort(best.rbegin(), best.rend());
      sums.push_back(
          std::accumulate(best.begin(), best.begin() + static_cast<std::ptrdiff_t>(router.groups->best), 0.0));
    }
    const std::vector<size_t> order = descending(sums);
    for (size_t at = static_cast<size_t>(router.groups->chosen); at < order.size(); ++at)
      for (size_t e = order[at] * size; e < (order[at] + 1) * size; ++e) ranking[e] = -INFINITY;
  }
  std::vector<bool> gone(logits.size());
  for (const size_t expert : descending(ranking)) {
    if (result.size() == perToken) break;
    double weight = scores[expert];
    if (router.scoring == RouterScoring::kTopkSoftmax) weight = std::exp(logits[expert]);
    if (router.scoring == RouterScoring::kSparseMixer)
      weight = sparseShare(logits, gone, expert, static_cast<double>(router.jitter));
    gone[expert] = true;
    result.emplace_back(expert, weight);
  }
  double all = 0;
  for (const auto& [expert, weight] : result) all += weight;
  for (auto& [expert, weight] : result) {
    if (router.normalise || router.scoring == RouterScoring::kTopkSoftmax) weight /= all;
    weight *= static_cast<double>(router.scale);
  }
  return result;
}

double clampedGate(const ClampedGate& clamped, double gate, double up) {
  const auto limit = static_cast<double>(clamped.limit);
  const double g = std::min(gate, limit), u = std::clamp(up, -limit, limit);
  return g / (1 + std::exp(-static_cast<double>(clamped.alpha) * g)) * (u + 1);
}

}  // namespace shardspeed::test
