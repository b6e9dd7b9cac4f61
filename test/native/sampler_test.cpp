#include "runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "check.h"
#include "random.h"

namespace shardspeed::test {

static constexpr float kInfinity = std::numeric_limits<float>::infinity();
static constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

static SampledToken sampleOf(const Sampler& sampler, std::vector<float> logits) {
  return sampler.sample(logits.data(), static_cast<int64_t>(logits.size()));
}

static Sampler samplerOf(SamplingParams params, const std::vector<int32_t>& prompt = {0}) {
  return Sampler(std::move(params), prompt.data(), static_cast<int64_t>(prompt.size()));
}

TEST(sampler, greedy_takes_the_largest_and_of_equals_the_first) {
  const Sampler sampler = samplerOf({});
  CHECK_EQ(sampleOf(sampler, {1, 5, 3}).token, 1);
  CHECK_EQ(sampleOf(sampler, {2, 7, 7, 7}).token, 1);
  CHECK_EQ(sampleOf(sampler, {0, 0, 0}).token, 0);
  CHECK_EQ(sampleOf(sampler, {-0.0f, 0.0f}).token, 0);
  CHECK_EQ(sampleOf(sampler, {-kInfinity, -1e30f}).token, 1);
  CHECK_EQ(sampleOf(sampler, {4}).token, 0);
}

TEST(sampler, draws_depend_on_seed_and_number_alone) {
  Random random(20);
  const std::vector<float> logits = random.normals(100, 2);
  SamplingParams params;
  params.temperature = 1;
  std::vector<std::vector<int32_t>> runs;
  for (const uint64_t seed : {1ull, 1ull, 2ull, 0xffffffffffffffffull}) {
    params.seed = seed;
    Sampler sampler = samplerOf(params);
    std::vector<int32_t> tokens;
    for (int n = 0; n < 200; ++n) {
      const int32_t token = sampleOf(sampler, logits).token;
      CHECK_EQ(sampleOf(sampler, logits).token, token);  // a second look does not count as a draw
      tokens.push_back(token);
      sampler.accept(token);
    }
    runs.push_back(tokens);
  }
  CHECK(runs[0] == runs[1]);
  CHECK(runs[0] != runs[2]);
  CHECK(runs[2] != runs[3]);
  // Another history, the same count: the same draw.
  params.seed = 1;
  Sampler other = samplerOf(params, {5, 6, 7});
  for (int n = 0; n < 50; ++n) other.accept(99);
  CHECK_EQ(sampleOf(other, logits).token, runs[0][50]);
}

// What the distribution should be, by the definitions of the options: temperature, top-k, top-p, min-p in that order.
static std::vector<double> expectedDistribution(const std::vector<float>& logits, const SamplingParams& params) {
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  std::vector<double> weights(logits.size());
  for (size_t i = 0; i < logits.size(); ++i)
    weights[i] = std::exp((static_cast<double>(logits[i]) - static_cast<double>(logits[order[0]])) /
                          static_cast<double>(params.temperature));
  auto keep = [&](size_t count) {
    for (size_t i = count; i < order.size(); ++i) weights[order[i]] = 0;
  };
  auto normalize = [&] {
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (double& weight : weights) weight /= total;
  };
  if (params.topK > 0) keep(static_cast<size_t>(params.topK));
  normalize();
  double mass = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    mass += weights[order[i]];
    if (mass >= static_cast<double>(params.topP)) {
      keep(i + 1);
      break;
    }
  }
  normalize();
  const double least = static_cast<double>(params.minP) * weights[order[0]];
  for (double& weight : weights)
    if (weight < least) weight = 0;
  normalize();
  return weights;
}

static void checkDistribution(const char* title, const std::vector<float>& logits, const SamplingParams& params) {
  const Note note(title);
  constexpr int kDraws = kReduced ? 2000 : 20000;
  const std::vector<double> expected = expectedDistribution(logits, params);
  std::vector<int> counts(logits.size());
  Sampler sampler = samplerOf(params);
  for (int n = 0; n < kDraws; ++n) {
    const int32_t token = sampleOf(sampler, logits).token;
    REQUIRE(token >= 0 && token < static_cast<int32_t>(logits.size()));
    ++counts[static_cast<size_t>(token)];
    sampler.accept(token);
  }
  // Chi square, with the rare tokens as one cell: each should hold some draws.
  double statistic = 0, restExpected = 0, restFound = 0;
  int cells = 0;
  const auto addCell = [&](double found, double wanted) {
    statistic += (found - wanted) * (found - wanted) / wanted;
    ++cells;
  };
  for (size_t i = 0; i < logits.size(); ++i) {
    const Note token("token", i);
    if (expected[i] == 0) {
      CHECK_EQ(counts[i], 0);
    } else if (expected[i] * kDraws < 5) {
      restExpected += expected[i] * kDraws;
      restFound += counts[i];
    } else {
      addCell(counts[i], expected[i] * kDraws);
    }
  }
  if (restExpected >= 5) addCell(restFound, restExpected);
  const double freedom = cells - 1;
  REQUIRE(cells > 0);
  // Mean of the statistic plus five deviations; the seeds are fixed, so this passes always or never.
  CHECK(statistic <= freedom + 5 * std::sqrt(2 * freedom) + 1e-9);
  if (*std::max_element(expected.begin(), expected.end()) == 1)
    CHECK_EQ(*std::max_element(counts.begin(), counts.end()), kDraws);
}

TEST(sampler, draws_follow_the_distribution) {
  Random random(21);
  const std::vector<float> logits = random.normals(60, 2);
  SamplingParams plain;
  plain.temperature = 1;
  plain.seed = 42;
  checkDistribution("temperature 1", logits, plain);
  for (const float temperature : {0.3f, 0.7f, 2.0f}) {
    SamplingParams params = plain;
    params.temperature = temperature;
    checkDistribution("temperature", logits, params);
  }
  for (const int32_t topK : {1, 2, 7, 59, 60, 1000}) {
    SamplingParams params = plain;
    params.topK = std::min(topK, 60);
    checkDistribution("top k", logits, params);
  }
  for (const float topP : {1e-6f, 0.1f, 0.5f, 0.9f, 0.999f}) {
    SamplingParams params = plain;
    params.topP = topP;
    checkDistribution("top p", logits, params);
  }
  for (const float minP : {0.001f, 0.05f, 0.5f, 1.0f}) {
    SamplingParams params = plain;
    params.minP = minP;
    checkDistribution("min p", logits, params);
  }
  SamplingParams all = plain;
  all.temperature = 1.5f;
  all.topK = 30;
  all.topP = 0.95f;
  all.minP = 0.02f;
  checkDistribution("all together", logits, all);
  // A flat distribution, where top-p must look past its first sorted heads.
  SamplingParams flat = plain;
  flat.topP = 0.8f;
  checkDistribution("flat", random.normals(kReduced ? 200 : 1000, 0.05f), flat);
}

TEST(sampler, seeds_are_independent) {
  SamplingParams params;
  params.temperature = 1;
  std::vector<int> counts(4);
  for (uint64_t seed = 0; seed < 20000; ++seed) {
    params.seed = seed;
    ++counts[static_cast<size_t>(sampleOf(samplerOf(params), {0, 0, 0, 0}).token)];
  }
  for (const int count : counts) CHECK_NEAR(count, 5000, 5 * std::sqrt(20000 * 0.25 * 0.75));
}

TEST(sampler, top_k_of_ties_keeps_the_smaller_ids) {
  SamplingParams params;
  params.temperature = 1;
  params.topK = 2;
  std::set<int32_t> seen;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    params.seed = seed;
    seen.insert(sampleOf(samplerOf(params), {1, 1, 1, 1, 1}).token);
  }
  CHECK(seen == (std::set<int32_t>{0, 1}));
}

// The walk over the tokens is in the order of their ids, also where top-p sorts them and leaves none out.
TEST(sampler, a_top_p_that_keeps_all_changes_nothing) {
  Random random(24);
  const std::vector<float> logits = random.normals(20, 0.2f);
  SamplingParams params;
  params.temperature = 1;
  for (params.seed = 0; params.seed < 200; ++params.seed) {
    params.topP = 1;
    const int32_t token = sampleOf(samplerOf(params), logits).token;
    params.topP = 0.999999f;
    CHECK_EQ(sampleOf(samplerOf(params), logits).token, token);
  }
}

TEST(sampler, penalties_have_their_exact_values) {
  SamplingParams params;
  params.repetitionPenalty = 2;
  params.presencePenalty = 0.5f;
  params.frequencyPenalty = 0.25f;
  Sampler sampler = samplerOf(params, {0, 1, 1, 100, -3});
  sampler.accept(2);
  sampler.accept(2);
  sampler.accept(2);
  sampler.accept(1);
  std::vector<float> logits = {4, 4, 4, 4, -4, 0};
  sampler.sample(logits.data(), 6);
  CHECK_EQ(logits[0], 2.0f);              // in the prompt only: repetition
  CHECK_EQ(logits[1], 2 - 0.75f);         // prompt, and once new
  CHECK_EQ(logits[2], 2 - 0.5f - 0.75f);  // three times new
  CHECK_EQ(logits[3], 4.0f);
  CHECK_EQ(logits[4], -4.0f);
  std::vector<float> negative = {-4, -4, -4, 1, 1, 1};
  sampler.sample(negative.data(), 6);
  CHECK_EQ(negative[0], -8.0f);
  CHECK_EQ(negative[1], -8 - 0.75f);
  CHECK_EQ(negative[2], -8 - 1.25f);
  // Without repetition the prompt does not count.
  params.repetitionPenalty = 1;
  Sampler newOnly = samplerOf(params, {0, 1});
  newOnly.accept(1);
  std::vector<float> third = {4, 4, 4};
  CHECK_EQ(newOnly.sample(third.data(), 3).token, 0);
  CHECK_EQ(third[0], 4.0f);
  CHECK_EQ(third[1], 3.25f);
}

TEST(sampler, minimum_length_holds_back_stop_tokens) {
  SamplingParams params;
  params.minNewTokens = 2;
  params.stopTokens = {1, 3, 77, -5};
  for (const float temperature : {0.0f, 1.0f}) {
    params.temperature = temperature;
    Sampler sampler = samplerOf(params);
    for (int n = 0; n < 2; ++n) {
      const int32_t token = sampleOf(sampler, {0, 50, 1, 60}).token;
      CHECK(token == 0 || token == 2);
      sampler.accept(token);
    }
    CHECK_EQ(sampleOf(sampler, {0, 50, 1, 90}).token, 3);
    CHECK_EQ(sampler.newTokens(), 2);
  }
  const Sampler sampler = samplerOf(params);
  CHECK(sampler.isStop(3));
  CHECK(!sampler.isStop(2));
}

TEST(sampler, log_probabilities_are_those_of_the_unchanged_logits) {
  Random random(22);
  for (const int32_t wanted : {0, 1, 5, 300}) {
    const Note note("logprobs", wanted);
    SamplingParams params;
    params.temperature = 0.5f;
    params.topK = 10;
    params.repetitionPenalty = 3;
    params.logprobs = wanted;
    params.seed = 5;
    Sampler sampler = samplerOf(params, {1, 2, 3, 4});
    std::vector<float> logits = random.normals(200, 3);
    logits[17] = logits[18] = 20;  // a tie at the top
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - 20);
    const auto expected = [&](int32_t token) {
      return static_cast<double>(logits[static_cast<size_t>(token)]) - 20 - std::log(sum);
    };
    const SampledToken sampled = sampleOf(sampler, logits);
    CHECK_NEAR(sampled.logprob, expected(sampled.token), 1e-7, 1e-6);
    CHECK_EQ(sampled.top.size(), static_cast<size_t>(std::min(wanted, 200)));
    for (size_t i = 0; i < sampled.top.size(); ++i) {
      CHECK_NEAR(sampled.top[i].logprob, expected(sampled.top[i].token), 1e-7, 1e-6);
      if (i > 0) CHECK(sampled.top[i].logprob <= sampled.top[i - 1].logprob);
    }
    if (wanted >= 2) {
      CHECK_EQ(sampled.top[0].token, 17);
      CHECK_EQ(sampled.top[1].token, 18);
    }
  }
  CHECK(sampleOf(samplerOf({}), {1, 2}).top.empty());
}

TEST(sampler, log_probability_of_a_penalised_token) {
  SamplingParams params;
  params.repetitionPenalty = 1.5f;
  params.presencePenalty = 0.25f;
  params.frequencyPenalty = 0.125f;
  params.logprobs = 1;
  for (const float temperature : {0.0f, 0.01f}) {
    params.temperature = temperature;
    Sampler sampler = samplerOf(params, {1, 2});
    sampler.accept(1);
    // It is drawn in spite of its penalties, by its unchanged logit.
    const SampledToken sampled = sampleOf(sampler, {0, 8, 1, 2});
    CHECK_EQ(sampled.token, 1);
    const double expected = -std::log(1 + std::exp(-8.0) + std::exp(-7.0) + std::exp(-6.0));
    CHECK_NEAR(sampled.logprob, expected, 1e-7, 1e-6);
    CHECK_NEAR(sampled.top[0].logprob, expected, 1e-7, 1e-6);
  }
}

// Equal logits, whose sums have no rounding: what a boundary met exactly keeps, and nothing more.
TEST(sampler, boundaries_that_are_met_exactly) {
  const auto kept = [](SamplingParams params, const std::vector<float>& logits) {
    params.temperature = 1;
    std::set<int32_t> seen;
    for (params.seed = 0; params.seed < 300; ++params.seed) seen.insert(sampleOf(samplerOf(params), logits).token);
    return seen;
  };
  SamplingParams half, quarter, most, likely;
  half.topP = 0.5f;
  quarter.topP = 0.25f;
  most.topP = 0.75f;
  likely.minP = 1;
  CHECK(kept(half, {3, 3, 3, 3}) == (std::set<int32_t>{0, 1}));
  CHECK(kept(quarter, {3, 3, 3, 3}) == (std::set<int32_t>{0}));
  CHECK(kept(most, {3, 3, 3, 3}) == (std::set<int32_t>{0, 1, 2}));
  CHECK(kept(likely, {3, 2, 3}) == (std::set<int32_t>{0, 2}));
}

// NaN and infinity are reported, whatever the options; minus infinity means never, and never is fine for some tokens.
TEST(sampler, numbers_that_are_none) {
  Random random(23);
  for (const float odd : {kNan, kInfinity, -kInfinity, 3e38f, -3e38f, 1e-45f})
    for (const double share : {0.003, 0.3, 1.0})
      for (int options = 0; options < 32; ++options) {
        const Note note("value", odd, "share", share, "options", options);
        SamplingParams params;
        params.temperature = options & 1 ? 0.8f : 0.0f;
        params.topK = options & 2 ? 40 : 0;
        params.topP = options & 4 ? 0.9f : 1.0f;
        params.minP = options & 8 ? 0.05f : 0.0f;
        params.logprobs = options & 16 ? 4 : -1;
        params.seed = static_cast<uint64_t>(options);
        std::vector<float> logits = random.normals(300, 2);
        for (float& logit : logits)
          if (random.chance(share)) logit = odd;
        logits[static_cast<size_t>(random.below(300))] = odd;
        const SampledToken sampled = sampleOf(samplerOf(params), logits);
        const bool sound = !std::isnan(odd) && odd != kInfinity && !(odd == -kInfinity && share == 1.0);
        CHECK_EQ(sampled.finite, sound);
        REQUIRE(sampled.token >= 0 && sampled.token < 300);
        if (sound && odd == -kInfinity) CHECK(logits[static_cast<size_t>(sampled.token)] > -kInfinity);
      }
  // One certain token among impossible ones.
  SamplingParams params;
  params.temperature = 1;
  CHECK_EQ(sampleOf(samplerOf(params), {-kInfinity, -kInfinity, 0, -kInfinity}).token, 2);
  // No token is chosen where the model has failed.
  for (const std::vector<float>& logits :
       std::vector<std::vector<float>>{{0, kInfinity, 1}, {0, std::nanf(""), 1}, {-kInfinity, -kInfinity}})
    CHECK(!sampleOf(samplerOf(params), logits).finite);
  // So cold that every other weight vanishes, and so cold that the quotient overflows.
  for (const float temperature : {1e-3f, 1e-30f, 1e-45f}) {
    params.temperature = temperature;
    CHECK_EQ(sampleOf(samplerOf(params), {1, 3, 2}).token, 1);
    CHECK_EQ(sampleOf(samplerOf(params), {-1, -3, -2}).token, 0);
  }
}

// A token counts as new when it is expected, and is among the counts when it is learned; the last one says where it
// comes from until all are known.
TEST(sampler, tokens_are_learned_later_than_expected) {
  SamplingParams params;
  params.frequencyPenalty = 0.5f;
  Sampler told(params, nullptr, 0), later(params, nullptr, 0);
  told.accept(3);
  CHECK_EQ(told.state().unknown, -1);
  later.expect(7);
  CHECK_EQ(later.newTokens(), 1);
  CHECK_EQ(later.state().unknown, 7);
  CHECK(later.state().counts.empty());
  later.expect(2);
  later.learn(3);
  CHECK_EQ(later.state().unknown, 2);
  CHECK_EQ(later.newTokens(), 2);
  told.accept(3);
  later.learn(3);
  CHECK_EQ(later.state().unknown, -1);
  CHECK(later.state().counts == told.state().counts);
  CHECK_EQ(later.state().counts.at(3), 2);
}

}  // namespace shardspeed::test
