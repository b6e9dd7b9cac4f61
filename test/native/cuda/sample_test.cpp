#include "cuda/sample.h"

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <vector>

#include "cuda/device.h"
#include "random.h"
#include "runtime/sampler.h"
#include "runtime/token_scores.h"

// The device's choices against those of runtime/sampler.cpp. Both are exact but for the exponential: the device's is
// fp32 and its sums are integers of 2^-44, so the two may differ where a sum lands within kNearTie of a threshold.
// Every difference found must be such a case, and they must be rare.

namespace shardspeed::test {

static constexpr float kInfinity = std::numeric_limits<float>::infinity();
static constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
static constexpr double kNearTie = 2e-6;

struct Case {
  SamplingParams params;
  std::vector<int32_t> prompt, generated;
  std::vector<float> logits;
  std::vector<int32_t> mask;  // empty = every token may be chosen
};

class FixedMask : public TokenConstraint {
 public:
  explicit FixedMask(std::vector<int32_t> mask) : mask_(std::move(mask)) {}
  bool fill(int32_t* mask) override {
    std::copy(mask_.begin(), mask_.end(), mask);
    return true;
  }
  void accept(int32_t) override {}
  void rollback(int64_t) override {}
  std::unique_ptr<TokenConstraint> clone() const override { return std::make_unique<FixedMask>(*this); }

 private:
  std::vector<int32_t> mask_;
};

static Sampler samplerOf(const Case& wish) {
  Sampler sampler(wish.params, wish.prompt.data(), static_cast<int64_t>(wish.prompt.size()));
  if (!wish.mask.empty()) sampler.constrain(std::make_unique<FixedMask>(wish.mask));
  for (const int32_t token : wish.generated) sampler.accept(token);
  return sampler;
}

// What the device needs to know about the cases, one a row.
struct DeviceLists {
  std::vector<cuda::SampleRow> rows;
  std::vector<cuda::TokenCount> counts;
  std::vector<int32_t> banned;
  std::vector<cuda::BiasEntry> biases;
  std::vector<int32_t> masks;

  void add(const Case& wish) {
    const SamplingParams& params = wish.params;
    cuda::SampleRow row{};
    row.temperature = params.temperature;
    row.topK = params.topK;
    row.topP = params.topP;
    row.minP = params.minP;
    row.repetitionPenalty = params.repetitionPenalty;
    row.presencePenalty = params.presencePenalty;
    row.frequencyPenalty = params.frequencyPenalty;
    row.logprobs = params.logprobs;
    row.seed = params.seed;
    row.counter = wish.generated.size();
    std::map<int32_t, int32_t, std::greater<>> times;
    if (params.repetitionPenalty != 1)
      for (const int32_t token : wish.prompt) times.emplace(token, 0);
    for (const int32_t token : wish.generated) ++times[token];
    row.firstCount = static_cast<int32_t>(counts.size());
    row.countEntries = static_cast<int32_t>(times.size());
    for (const auto& [token, count] : times) counts.push_back({token, count, kNan});
    row.firstBanned = static_cast<int32_t>(banned.size());
    if (static_cast<int32_t>(wish.generated.size()) < params.minNewTokens)
      banned.insert(banned.end(), params.stopTokens.begin(), params.stopTokens.end());
    row.bannedEntries = static_cast<int32_t>(banned.size()) - row.firstBanned;
    row.firstBias = static_cast<int32_t>(biases.size());
    row.biasEntries = static_cast<int32_t>(params.biases.size());
    for (const auto& [token, bias] : params.biases) biases.push_back({token, bias, kNan});
    if (!wish.mask.empty()) {
      row.mask = static_cast<int32_t>(masks.size() / wish.mask.size());
      row.bannedEntries = 0;
      const size_t first = masks.size();
      masks.resize(first + wish.mask.size());
      const Sampler sampler = samplerOf(wish);
      CHECK(fillMask(sampler.state(), static_cast<int64_t>(wish.logits.size()), masks.data() + first) ==
            MaskKind::kSome);
    }
    rows.push_back(row);
  }
};

static std::vector<cuda::SampleResult> sampleOnDevice(const std::vector<Case>& cases, bool plain = false) {
  const auto vocab = static_cast<int64_t>(cases.at(0).logits.size()), count = static_cast<int64_t>(cases.size());
  const int64_t stride = (vocab + 63) / 64 * 64;
  std::vector<float> logits(static_cast<size_t>(count * stride), kNan);  // what lies behind a row counts for nothing
  DeviceLists lists;
  for (int64_t row = 0; row < count; ++row) {
    const Case& wish = cases[static_cast<size_t>(row)];
    std::copy(wish.logits.begin(), wish.logits.end(), logits.begin() + row * stride);
    lists.add(wish);
  }
  const DeviceArray<float> deviceLogits(logits);
  const DeviceArray<cuda::SampleRow> rows(lists.rows);
  const DeviceArray<cuda::TokenCount> counts(lists.counts);
  const DeviceArray<int32_t> banned(lists.banned), masks(lists.masks);
  const DeviceArray<cuda::BiasEntry> biases(lists.biases);
  const DeviceArray<cuda::SampleResult> results(static_cast<size_t>(count));
  const DeviceArray<unsigned char> workspace(cuda::sampleWorkspaceBytes(count, vocab));
  const cuda::SampleLists all{rows.data(), counts.data(), banned.data(), biases.data(), masks.data()};
  cuda::sampleRows(deviceLogits.data(), stride, vocab, count, plain, plain ? cuda::SampleLists{} : all, results.data(),
                   workspace.data(), nullptr);
  return results.read();
}

// The sampler's draw number n of a seed.
static double uniformOf(uint64_t seed, uint64_t n) {
  uint64_t x = seed + (n + 1) * 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return static_cast<double>((x ^ (x >> 31)) >> 11) * 0x1.0p-53;
}

// How far, relative to the whole, the sums of a draw stay from what decides: top-p's bound, min-p's, the drawn point.
// logits: after penalties.
static double smallestGap(const std::vector<float>& logits, const SamplingParams& params, uint64_t n) {
  struct Candidate {
    float logit;
    size_t token;
    double weight;
  };
  std::vector<Candidate> candidates;
  float largest = -kInfinity;
  for (size_t i = 0; i < logits.size(); ++i) {
    candidates.push_back({logits[i] / params.temperature, i, 0});
    largest = std::max(largest, candidates.back().logit);
  }
  for (Candidate& c : candidates) c.weight = std::exp(static_cast<double>(c.logit) - static_cast<double>(largest));
  const auto massOf = [&] {
    double total = 0;
    for (const Candidate& c : candidates) total += c.weight;
    return total;
  };
  std::stable_sort(candidates.begin(), candidates.end(), [](auto& a, auto& b) { return a.logit > b.logit; });
  if (params.topK > 0 && static_cast<size_t>(params.topK) < candidates.size())
    candidates.resize(static_cast<size_t>(params.topK));
  double gap = 1;
  if (params.topP < 1) {
    const double total = massOf(), wanted = static_cast<double>(params.topP) * total;
    double mass = 0;
    size_t kept = 0;
    do {
      mass += candidates[kept++].weight;
      gap = std::min(gap, std::abs(mass - wanted) / total);
    } while (mass < wanted && kept < candidates.size());
    candidates.resize(kept);
  }
  if (params.minP > 0) {
    const auto least = static_cast<double>(params.minP);
    for (const Candidate& c : candidates)
      if (c.weight != 1) gap = std::min(gap, std::abs(c.weight - least) / least);
    std::erase_if(candidates, [&](const Candidate& c) { return c.weight < least; });
  }
  std::sort(candidates.begin(), candidates.end(), [](auto& a, auto& b) { return a.token < b.token; });
  const double total = massOf(), point = uniformOf(params.seed, n) * total;
  double mass = 0;
  for (const Candidate& c : candidates) {
    mass += c.weight;
    gap = std::min(gap, std::abs(mass - point) / total);
  }
  return gap;
}

static void checkLogprob(float found, float expected) {
  if (std::isinf(expected))
    CHECK_EQ(found, expected);
  else
    CHECK_NEAR(found, expected, 1e-6, 1e-6);
}

static std::string describe(const Case& wish) {
  const SamplingParams& p = wish.params;
  return "temperature " + show(double{p.temperature}) + " topK " + show(int64_t{p.topK}) + " topP " +
         show(double{p.topP}) + " minP " + show(double{p.minP}) + " repetition " + show(double{p.repetitionPenalty}) +
         " presence " + show(double{p.presencePenalty}) + " frequency " + show(double{p.frequencyPenalty}) +
         " logprobs " + show(int64_t{p.logprobs}) + " seed " + show(p.seed) + " new " +
         show(static_cast<uint64_t>(wish.generated.size()));
}

// Whether the device chose another token than the sampler; that must be a near tie.
static bool checkAgainstSampler(const Case& wish, const cuda::SampleResult& found) {
  const std::string text = describe(wish);
  const Note note(text);
  std::vector<float> logits = wish.logits;
  const Sampler sampler = samplerOf(wish);
  const SampledToken expected = sampler.sample(logits.data(), static_cast<int64_t>(logits.size()));
  CHECK_EQ(found.finite, expected.finite ? 1 : 0);
  CHECK_EQ(found.topCount, expected.top.size());
  if (!expected.finite) return false;
  for (size_t i = 0; i < expected.top.size(); ++i) {
    CHECK_EQ(found.top[i].token, expected.top[i].token);
    checkLogprob(found.top[i].logprob, expected.top[i].logprob);
  }
  CHECK(wish.mask.empty() || allows(wish.mask.data(), found.token));
  if (found.token != expected.token) {
    CHECK(wish.params.temperature != 0);
    const double gap = smallestGap(logits, wish.params, wish.generated.size());
    if (!(gap < kNearTie)) {
      CHECK_EQ(found.token, expected.token);
      CHECK_NEAR(gap, 0.0, kNearTie);
    }
    return true;
  }
  if (wish.params.logprobs >= 0) checkLogprob(found.logprob, expected.logprob);
  return false;
}

template <typename T>
static T oneOf(Random& random, std::initializer_list<T> values) {
  return values.begin()[random.below(static_cast<int64_t>(values.size()))];
}

// Spread out, nearly flat, many ties, two values, all equal, one that outweighs the rest; some tokens impossible.
static std::vector<float> randomLogits(Random& random, int64_t vocab) {
  const int64_t kind = random.below(7);
  std::vector<float> logits = random.normals(vocab, oneOf(random, {0.05f, 1.0f, 3.0f, 12.0f}));
  for (float& logit : logits) {
    if (kind == 1) logit = std::round(2 * logit) / 2;
    if (kind == 2) logit = logit > 0 ? 0.0f : -0.0f;
    if (kind == 3) logit = -3.25f;
    if (kind == 4) logit *= 1e30f;
    if (kind == 5) logit = logit > 1 ? 7.0f : -kInfinity;
  }
  if (kind == 6) logits[static_cast<size_t>(random.below(vocab))] = 60;
  if (random.chance(0.2))
    for (float& logit : logits)
      if (random.chance(0.4)) logit = -kInfinity;
  if (random.chance(0.03))
    logits[static_cast<size_t>(random.below(vocab))] = oneOf(random, {kNan, kInfinity, -kNan, -kInfinity});
  return logits;
}

static Case randomCase(Random& random, int64_t vocab) {
  Case wish;
  SamplingParams& params = wish.params;
  params.temperature = oneOf(random, {0.0f, 1.0f, 1.0f, 0.7f, 1.5f, 1e-3f, 1e-42f, 50.0f, 1e30f});
  if (random.chance(0.5))
    params.topK = oneOf(random, {1, 2, 5, 40, 600, static_cast<int32_t>(vocab) - 1, static_cast<int32_t>(vocab),
                                 static_cast<int32_t>(vocab) + 5});
  if (random.chance(0.5)) params.topP = oneOf(random, {0.9f, 0.95f, 0.5f, 0.1f, 0.9999f, 1e-6f});
  if (random.chance(0.4)) params.minP = oneOf(random, {0.05f, 0.5f, 1.0f, 1e-7f});
  if (random.chance(0.4)) params.repetitionPenalty = oneOf(random, {1.2f, 0.8f});
  if (random.chance(0.4)) params.presencePenalty = oneOf(random, {0.5f, -1.0f, 1.9f});
  if (random.chance(0.4)) params.frequencyPenalty = oneOf(random, {0.3f, -0.2f});
  params.seed = random.bits();
  params.minNewTokens = static_cast<int32_t>(random.below(8));
  for (int64_t i = random.below(4); i > 0; --i)
    params.stopTokens.push_back(static_cast<int32_t>(random.between(-1, vocab)));  // some are no tokens
  if (random.chance(0.5)) params.logprobs = oneOf(random, {0, 1, 5, 20, cuda::kMostLogprobs});
  for (int64_t i = random.below(20); i > 0; --i) wish.prompt.push_back(static_cast<int32_t>(random.below(vocab + 2)));
  for (int64_t i = random.below(12); i > 0; --i) wish.generated.push_back(static_cast<int32_t>(random.below(vocab)));
  wish.logits = randomLogits(random, vocab);
  if (random.chance(0.3)) {
    std::set<int32_t> biased;
    for (int64_t i = random.below(12); i > 0; --i) biased.insert(static_cast<int32_t>(random.below(vocab)));
    for (const int32_t token : biased)
      params.biases.push_back({token, oneOf(random, {-100.0f, 100.0f, 1.5f, -0.75f, 0.0f})});
  }
  if (random.chance(0.4)) {
    wish.mask.assign(static_cast<size_t>(maskWords(vocab)), 0);
    const float share = oneOf(random, {0.5f, 0.99f, 0.02f, 0.0f});
    for (int64_t token = 0; token < vocab; ++token)
      if (random.chance(share)) allow(wish.mask.data(), token);
    allow(wish.mask.data(), random.below(vocab));
  }
  return wish;
}

static void checkRandomCases(int64_t vocab, int count) {
  const Note note("vocab", vocab);
  Random random(static_cast<uint64_t>(vocab));
  std::vector<Case> cases;
  const int tried = kRaces ? (count + 31) / 32 : kReduced ? (count + 7) / 8 : count;
  for (int i = 0; i < tried; ++i) cases.push_back(randomCase(random, vocab));
  const std::vector<cuda::SampleResult> found = sampleOnDevice(cases);
  size_t different = 0;
  for (size_t i = 0; i < cases.size(); ++i) different += checkAgainstSampler(cases[i], found[i]) ? 1 : 0;
  CHECK(different <= 1);
}

TEST(sample, random_wishes_over_tiny_vocabularies) {
  for (const int64_t vocab : {1, 2, 3, 31, 32, 33}) checkRandomCases(vocab, 120);
}

TEST(sample, random_wishes_over_131_tokens) {
  checkRandomCases(131, 500);
}

TEST(sample, random_wishes_over_1000_tokens) {
  checkRandomCases(1000, 450);
}

TEST(sample, random_wishes_around_a_whole_chunk) {
  for (const int64_t vocab : {4095, 4096, 4097}) checkRandomCases(vocab, 60);
}

TEST(sample, random_wishes_over_5000_tokens) {
  checkRandomCases(5000, 200);
}

TEST(sample, random_wishes_over_the_vocabulary_of_opt) {
  checkRandomCases(50272, 10);
}

TEST(sample, plain_rows_take_the_largest_and_of_equals_the_first) {
  for (const int64_t vocab : {1, 2, 31, 33, 1000, 4096, 4100, 9001}) {
    const Note note("vocab", vocab);
    Random random(static_cast<uint64_t>(vocab) + 7);
    std::vector<Case> cases;
    for (int i = 0; i < 24; ++i) {
      cases.emplace_back();
      cases.back().logits = randomLogits(random, vocab);
    }
    // What makes a row unfit, at its very end.
    for (const float value : {kNan, -kNan, kInfinity, -kInfinity}) {
      cases.emplace_back();
      cases.back().logits = random.normals(vocab);
      cases.back().logits.back() = value;
    }
    cases.emplace_back();
    cases.back().logits.assign(static_cast<size_t>(vocab), -kInfinity);
    const std::vector<cuda::SampleResult> found = sampleOnDevice(cases, true);
    for (size_t i = 0; i < cases.size(); ++i) CHECK(!checkAgainstSampler(cases[i], found[i]));
  }
}

// A graph keeps pointers, not logits: what is replayed chooses from what lies there then.
TEST(sample, plain_rows_are_replayed_by_a_graph) {
  constexpr int64_t kVocab = 4200, kStride = 4224, kRows = 2;
  DeviceArray<float> logits(kStride * kRows);
  const DeviceArray<cuda::SampleResult> results(kRows);
  const DeviceArray<unsigned char> workspace(cuda::sampleWorkspaceBytes(kRows, kVocab));
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  cuda::check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  cuda::check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  cuda::sampleRows(logits.data(), kStride, kVocab, kRows, true, {}, results.data(), workspace.data(), stream);
  cuda::check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  cuda::check(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
  for (const int32_t best : {0, 17, 4095, 4096, 4199}) {
    const Note note("best", best);
    std::vector<float> values(kStride * kRows, -1.0f);
    values[static_cast<size_t>(best)] = 2;
    values[static_cast<size_t>(kStride + kVocab - 1 - best)] = 3;
    logits.write(values);
    cuda::check(cudaGraphLaunch(executable, stream), "cudaGraphLaunch");
    const std::vector<cuda::SampleResult> found = results.read();
    CHECK_EQ(found[0].token, best);
    CHECK_EQ(found[1].token, kVocab - 1 - best);
  }
  cuda::check(cudaGraphExecDestroy(executable), "cudaGraphExecDestroy");
  cuda::check(cudaGraphDestroy(graph), "cudaGraphDestroy");
  cuda::check(cudaStreamDestroy(stream), "cudaStreamDestroy");
}

// More tokens of the same logit, or nearly the same, than are ranked at once: ranges must be narrowed.
TEST(sample, cuts_within_crowds_of_equals) {
  constexpr int64_t kVocab = 6000;
  Random random(5);
  std::vector<Case> cases;
  for (const int32_t topK : {1, 513, 2047, 4500, 5999})
    for (const float spread : {0.0f, 1e-6f, 1e-3f}) {
      if (kReduced && (topK != 2047 || spread == 1e-3f)) continue;
      Case wish;
      wish.logits = random.normals(kVocab, spread);
      for (float& logit : wish.logits) logit += 4;
      wish.params.temperature = 1;
      wish.params.seed = random.bits();
      wish.params.topK = topK;
      cases.push_back(wish);
      wish.params.topP = 0.37f;
      cases.push_back(wish);
      wish.params.topK = 0;
      wish.params.logprobs = 64;
      cases.push_back(wish);
    }
  const std::vector<cuda::SampleResult> found = sampleOnDevice(cases);
  size_t different = 0;
  for (size_t i = 0; i < cases.size(); ++i) different += checkAgainstSampler(cases[i], found[i]) ? 1 : 0;
  CHECK(different <= 1);
}

TEST(sample, a_row_has_the_same_bits_alone_and_in_company) {
  Random random(6);
  std::vector<Case> cases;
  for (int i = 0; i < (kReduced ? 3 : 12); ++i) {
    cases.push_back(randomCase(random, 4500));
    cases.back().params.temperature = 1;
    cases.back().params.logprobs = 3;
  }
  const std::vector<cuda::SampleResult> together = sampleOnDevice(cases);
  for (size_t i = 0; i < cases.size(); ++i) {
    const Note note("row", i);
    const cuda::SampleResult alone = sampleOnDevice({cases[i]}).at(0);
    CHECK_EQ(alone.token, together[i].token);
    CHECK_BITS(&alone.logprob, &together[i].logprob, 1);
    CHECK_EQ(alone.topCount, together[i].topCount);
    CHECK_BITS(&alone.top[0].logprob, &together[i].top[0].logprob, 2 * (alone.topCount > 0 ? 1 : 0));
  }
}

TEST(sample, no_order_of_threads_changes_a_choice) {
  Random random(8);
  std::vector<Case> cases;
  for (int i = 0; i < 6; ++i) cases.push_back(randomCase(random, 4200));
  for (Case& wish : cases) wish.params.temperature = 1, wish.params.topK = 600, wish.params.topP = 0.9f;
  cases[0].logits.assign(4200, 1.0f);
  cases[1].params.topK = 0;
  cases[2].params.topP = 1;
  cases[3].params.topK = 0, cases[3].params.topP = 1;
  cases[4].params.logprobs = 20;
  underAllSchedules([&] {
    const std::vector<cuda::SampleResult> found = sampleOnDevice(cases);
    for (size_t i = 0; i < cases.size(); ++i) CHECK(!checkAgainstSampler(cases[i], found[i]));
  });
}

// Chi square over draws of one distribution; expected frequencies by the definitions of the filters.
TEST(sample, draws_follow_the_distribution) {
  constexpr int64_t kVocab = 24;
  // Each draw is a row that nothing else touches: for races a few are as good.
  constexpr int kDraws = kRaces ? 40 : kReduced ? 200 : 800;
  Random random(9);
  Case wish;
  wish.logits = random.normals(kVocab, 1.5f);
  wish.params.temperature = 0.8f;
  wish.params.topK = 12;
  wish.params.minP = 0.01f;
  std::vector<Case> cases(static_cast<size_t>(kDraws), wish);
  for (size_t i = 0; i < cases.size(); ++i) cases[i].params.seed = 1000 + i;
  std::vector<int> found(kVocab);
  for (const cuda::SampleResult& result : sampleOnDevice(cases)) ++found.at(static_cast<size_t>(result.token));
  std::vector<size_t> order(kVocab);
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return wish.logits[a] > wish.logits[b]; });
  std::vector<double> weights(kVocab);
  double total = 0;
  for (size_t i = 0; i < 12; ++i) {
    const double below = static_cast<double>(wish.logits[order[i]]) - static_cast<double>(wish.logits[order[0]]);
    const double weight = std::exp(below / static_cast<double>(wish.params.temperature));
    if (weight >= 0.01) weights[order[i]] = weight, total += weight;
  }
  double statistic = 0;
  int cells = 0;
  for (size_t token = 0; token < weights.size(); ++token) {
    const Note note("token", token);
    const double expected = weights[token] / total * kDraws;
    if (expected == 0) {
      CHECK_EQ(found[token], 0);
      continue;
    }
    statistic += (found[token] - expected) * (found[token] - expected) / expected;
    ++cells;
  }
  CHECK(cells > 5);
  // Mean cells - 1, deviation sqrt(2 (cells - 1)): five deviations, and the seeds are fixed.
  CHECK(statistic < cells - 1 + 5 * std::sqrt(2.0 * (cells - 1)));
}

static std::vector<cuda::ScoreResult> scoreOnDevice(const std::vector<std::vector<float>>& rows,
                                                    const std::vector<cuda::ScoreRow>& wishes) {
  const auto vocab = static_cast<int64_t>(rows.at(0).size()), count = static_cast<int64_t>(rows.size());
  const int64_t stride = (vocab + 63) / 64 * 64;
  std::vector<float> logits(static_cast<size_t>(count * stride), kNan);
  for (int64_t row = 0; row < count; ++row)
    std::copy(rows[static_cast<size_t>(row)].begin(), rows[static_cast<size_t>(row)].end(),
              logits.begin() + row * stride);
  const DeviceArray<float> deviceLogits(logits);
  const DeviceArray<cuda::ScoreRow> deviceWishes(wishes);
  const DeviceArray<cuda::ScoreResult> results(rows.size());
  const DeviceArray<unsigned char> workspace(cuda::sampleWorkspaceBytes(count, vocab));
  cuda::scoreRows(deviceLogits.data(), stride, vocab, count, deviceWishes.data(), results.data(), workspace.data(),
                  nullptr);
  const std::vector<float> after = deviceLogits.read();
  CHECK_BITS(after.data(), logits.data(), count * stride);
  return results.read();
}

static void checkScore(const cuda::ScoreRow& wish, const std::vector<float>& logits, const cuda::ScoreResult& found) {
  const TokenScore expected = scoreToken({wish.token, wish.top}, logits.data(), static_cast<int64_t>(logits.size()));
  CHECK_EQ(found.token.finite, expected.finite ? 1 : 0);
  CHECK_EQ(found.token.topCount, expected.top.size());
  if (!expected.finite) return;
  CHECK_EQ(found.rank, expected.rank);
  CHECK_EQ(found.token.token, wish.token);
  checkLogprob(found.token.logprob, expected.logprob);
  for (size_t i = 0; i < expected.top.size(); ++i) {
    CHECK_EQ(found.token.top[i].token, expected.top[i].token);
    checkLogprob(found.token.top[i].logprob, expected.top[i].logprob);
    if (expected.top[i].token == wish.token) CHECK_BITS(&found.token.top[i].logprob, &found.token.logprob, 1);
  }
}

TEST(sample, scores_of_known_tokens) {
  for (const int64_t vocab : {1, 2, 33, 131, 4095, 4096, 4097, 9001}) {
    const Note note("vocab", vocab);
    Random random(static_cast<uint64_t>(vocab) + 70);
    std::vector<std::vector<float>> rows;
    std::vector<cuda::ScoreRow> wishes;
    for (int i = 0; i < (kReduced ? 6 : 30); ++i) {
      rows.push_back(randomLogits(random, vocab));
      wishes.push_back({static_cast<int32_t>(random.below(vocab)), oneOf(random, {0, 1, 5, 20, cuda::kMostLogprobs})});
    }
    const std::vector<cuda::ScoreResult> found = scoreOnDevice(rows, wishes);
    for (size_t i = 0; i < rows.size(); ++i) checkScore(wishes[i], rows[i], found[i]);
    // A row by itself has the same bits.
    const cuda::ScoreResult alone = scoreOnDevice({rows[1]}, {wishes[1]}).at(0);
    CHECK_EQ(alone.token.finite, found[1].token.finite);
    if (alone.token.finite == 0) continue;
    CHECK_EQ(alone.rank, found[1].rank);
    CHECK_BITS(&alone.token.logprob, &found[1].token.logprob, 1);
  }
}

TEST(sample, no_order_of_threads_changes_a_score) {
  Random random(71);
  std::vector<std::vector<float>> rows;
  for (int i = 0; i < 3; ++i) rows.push_back(randomLogits(random, 4200));
  const std::vector<cuda::ScoreRow> wishes = {{17, 20}, {4199, 0}, {4096, 64}};
  underAllSchedules([&] {
    const std::vector<cuda::ScoreResult> found = scoreOnDevice(rows, wishes);
    for (size_t i = 0; i < rows.size(); ++i) checkScore(wishes[i], rows[i], found[i]);
  });
}

TEST(sample, a_vocabulary_too_large_is_refused) {
  CHECK_THROWS("ERR_INVALID_ARGUMENT", "2^20",
               cuda::sampleRows(nullptr, 1 << 21, 1 << 21, 1, true, {}, nullptr, nullptr, nullptr));
  CHECK_THROWS("ERR_INVALID_ARGUMENT", "2^20",
               cuda::scoreRows(nullptr, 1 << 21, 1 << 21, 1, nullptr, nullptr, nullptr, nullptr));
}

}  // namespace shardspeed::test
