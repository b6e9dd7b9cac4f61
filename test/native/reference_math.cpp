#include "reference_math.h"

#include <algorithm>

namespace shardspeed::test {

double activationOf(ActivationKind kind, double x, XieluNumbers xielu) {
  switch (kind) {
    case ActivationKind::kNone:
      return x;
    case ActivationKind::kRelu:
      return x > 0 ? x : 0;
    case ActivationKind::kReluSquared:
      return x > 0 ? x * x : 0;
    case ActivationKind::kGelu:
      return 0.5 * x * std::erfc(-x * std::sqrt(0.5));
    case ActivationKind::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case ActivationKind::kQuickGelu:
      return x / (1 + std::exp(-1.702 * x));
    case ActivationKind::kSilu:
      return x / (1 + std::exp(-x));
    case ActivationKind::kTanh:
      return std::tanh(x);
    case ActivationKind::kSigmoid:
      return 1 / (1 + std::exp(-x));
    case ActivationKind::kXielu:
      return 0.5 * x + (x > 0 ? static_cast<double>(xielu.positive) * x * x
                              : static_cast<double>(xielu.negative) * (std::expm1(x) - x));
  }
  return NAN;
}

std::vector<double> normOf(NormKind kind, double epsilon, const double* weight, const double* bias,
                           const std::vector<double>& x) {
  const auto size = static_cast<double>(x.size());
  double mean = 0, squares = 0;
  if (kind == NormKind::kLayer)
    for (const double value : x) mean += value / size;
  for (const double value : x) squares += (value - mean) * (value - mean) / size;
  std::vector<double> out(x.size());
  for (size_t k = 0; k < x.size(); ++k)
    out[k] = (x[k] - mean) / std::sqrt(squares + epsilon) * (weight ? weight[k] : 1) + (bias ? bias[k] : 0);
  return out;
}

void rotate(const RotarySpec& rotary, int64_t position, int64_t totalLength, double* head, RotaryLayout layout) {
  const size_t half = rotary.inverseFrequencies.size();
  const int64_t original = rotary.dynamicOriginalPositions;
  const bool isLong = rotary.longer && totalLength > rotary.longer->originalPositions;
  const auto amplitude = static_cast<double>(isLong ? rotary.longer->amplitude : rotary.amplitude);
  for (size_t j = 0; j < half; ++j) {
    float frequency = isLong ? rotary.longer->inverseFrequencies[j] : rotary.inverseFrequencies[j];
    if (original > 0 && totalLength > original) {
      const double dim = 2 * static_cast<double>(half);
      const double ratio = static_cast<double>(totalLength) / static_cast<double>(original);
      const double growth = rotary.dynamicFactor * ratio - (rotary.dynamicFactor - 1);
      const double base = rotary.dynamicBase * std::pow(growth, dim / (dim - 2));
      frequency = static_cast<float>(std::pow(base, -2 * static_cast<double>(j) / dim));
    }
    const auto angle = static_cast<double>(static_cast<float>(position) * frequency);
    const double cosine = std::cos(angle) * amplitude;
    const double sine = std::sin(angle) * amplitude;
    double& one = layout == RotaryLayout::kHalf ? head[j] : head[2 * j];
    double& other = layout == RotaryLayout::kHalf ? head[j + half] : head[2 * j + 1];
    const double first = one, second = other;
    one = first * cosine - second * sine;
    other = second * cosine + first * sine;
  }
}

std::vector<double> attentionOf(const double* query, const std::vector<const double*>& keys,
                                const std::vector<const double*>& values, size_t dim, double scale,
                                const ScoreTerms& terms) {
  std::vector<double> scores, out(dim);
  double largest = terms.sink;
  for (const double* key : keys) {
    double score = scale * sumOfProducts(0, query, key, dim);
    if (terms.softCap > 0) score = terms.softCap * std::tanh(score / terms.softCap);
    score += terms.slope * (terms.firstDistance + static_cast<double>(scores.size()));
    if (!terms.others.empty()) score += terms.others[scores.size()];
    scores.push_back(score);
    largest = std::max(largest, score);
  }
  double total = std::exp(terms.sink - largest);
  for (size_t t = 0; t < keys.size(); ++t) {
    const double weight = std::exp(scores[t] - largest);
    total += weight;
    addScaled(weight, values[t], dim, out.data());
  }
  for (double& value : out) value /= total;
  return out;
}

}  // namespace shardspeed::test
