#include "token_mask.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <new>
#include <set>

#include "base/error.h"
#include "check.h"
#include "engine_harness.h"
#include "random.h"
#include "runtime/listed_tokens.h"
#include "runtime/sampler.h"

namespace shardspeed::test {

static constexpr float kNever = -std::numeric_limits<float>::infinity();

using Words = std::vector<std::vector<int32_t>>;

static std::set<int32_t> allowedBy(TokenConstraint& constraint, int64_t vocab) {
  std::vector<int32_t> mask(static_cast<size_t>(maskWords(vocab)), 0);
  const bool restricts = constraint.fill(mask.data());
  std::set<int32_t> tokens;
  for (int32_t token = 0; token < vocab; ++token)
    if (!restricts || allows(mask.data(), token)) tokens.insert(token);
  return tokens;
}

static std::unique_ptr<TokenConstraint> listed(int64_t vocab, const std::vector<int32_t>& allowed, Words words = {},
                                               const std::vector<int32_t>& prompt = {0}) {
  return std::make_unique<ListedTokens>(vocab, allowed, std::move(words), prompt);
}

// Straight from the definition: a token may come where it is listed and no bad word would end with it.
static bool mayCome(const std::vector<int32_t>& history, int32_t token, const std::vector<int32_t>& allowed,
                    const Words& words) {
  if (!allowed.empty() && std::find(allowed.begin(), allowed.end(), token) == allowed.end()) return false;
  std::vector<int32_t> whole = history;
  whole.push_back(token);
  return std::none_of(words.begin(), words.end(), [&](const std::vector<int32_t>& word) {
    return word.size() <= whole.size() && std::equal(word.rbegin(), word.rend(), whole.rbegin());
  });
}

TEST(token_mask, listed_tokens_are_those_of_the_definition) {
  Random random(7);
  for (int trial = 0; trial < 200; ++trial) {
    const Note note("trial", trial);
    const int64_t vocab = random.between(2, 70);
    const auto token = [&] { return static_cast<int32_t>(random.below(std::min<int64_t>(vocab, 4))); };
    std::vector<int32_t> allowed, history;
    if (random.chance(0.5))
      for (int64_t i = random.between(1, 5); i > 0; --i) allowed.push_back(static_cast<int32_t>(random.below(vocab)));
    Words words(static_cast<size_t>(random.below(5)));
    for (auto& word : words)
      for (int64_t i = random.between(1, 4); i > 0; --i) word.push_back(token());
    for (int64_t i = random.between(1, 6); i > 0; --i) history.push_back(token());
    const std::vector<int32_t> prompt = history;
    auto constraint = listed(vocab, allowed, words, prompt);
    const auto check = [&](TokenConstraint& one) {
      const std::set<int32_t> found = allowedBy(one, vocab);
      for (int32_t t = 0; t < vocab; ++t) CHECK_EQ(found.count(t) == 1, mayCome(history, t, allowed, words));
    };
    for (int step = 0; step < 12; ++step) {
      check(*constraint);
      const int64_t taken = static_cast<int64_t>(history.size() - prompt.size());
      if (taken > 0 && random.chance(0.3)) {
        const int64_t back = random.between(1, taken);
        constraint->rollback(back);
        history.resize(history.size() - static_cast<size_t>(back));
      } else if (random.chance(0.3)) {
        const auto copy = constraint->clone();
        copy->accept(token());  // changes nothing of the first one
        constraint = constraint->clone();
      } else {
        history.push_back(token());
        constraint->accept(history.back());
      }
    }
  }
}

// Masked and biased logits give what a sampler without either makes of logits that were changed by hand.
TEST(token_mask, sampling_is_that_of_logits_changed_by_hand) {
  Random random(11);
  for (int trial = 0; trial < 600; ++trial) {
    const Note note("trial", trial);
    const int64_t vocab = random.between(1, 200);
    std::vector<float> logits = random.normals(vocab, 3), changed = logits;
    SamplingParams params;
    params.temperature = random.chance(0.3) ? 0.0f : 1.3f;
    if (random.chance(0.4)) params.topK = static_cast<int32_t>(random.between(1, 20));
    if (random.chance(0.4)) params.topP = 0.8f;
    if (random.chance(0.4)) params.minP = 0.05f;
    if (random.chance(0.4)) params.repetitionPenalty = 1.4f;
    if (random.chance(0.4)) params.presencePenalty = 0.7f;
    params.seed = random.bits();
    SamplingParams wish = params;
    std::vector<int32_t> allowed;
    for (int32_t token = 0; token < vocab; ++token) {
      if (random.chance(0.3)) allowed.push_back(token);
      if (random.chance(0.2)) wish.biases.push_back({token, static_cast<float>(random.between(-5, 5))});
    }
    if (allowed.empty()) allowed.push_back(static_cast<int32_t>(random.below(vocab)));
    for (int32_t token = 0; token < vocab; ++token)
      if (!std::binary_search(allowed.begin(), allowed.end(), token)) changed[static_cast<size_t>(token)] = kNever;
    for (const auto& [token, bias] : wish.biases) changed[static_cast<size_t>(token)] += bias;
    const std::vector<int32_t> prompt = {0, static_cast<int32_t>(random.below(vocab))};
    Sampler plain(params, prompt.data(), 2), masked(wish, prompt.data(), 2);
    masked.constrain(listed(vocab, allowed));
    for (Sampler* sampler : {&plain, &masked}) sampler->accept(static_cast<int32_t>(vocab - 1));
    const SampledToken expected = plain.sample(changed.data(), vocab), found = masked.sample(logits.data(), vocab);
    CHECK_EQ(found.token, expected.token);
    CHECK(std::binary_search(allowed.begin(), allowed.end(), found.token));
  }
}

TEST(token_mask, log_probabilities_are_those_of_the_unchanged_distribution) {
  SamplingParams params;
  params.logprobs = 3;
  params.biases = {{2, 50}};
  Sampler sampler(params, nullptr, 0);
  sampler.constrain(listed(4, {0, 2}));
  std::vector<float> logits = {1, 5, 0, 2};
  const SampledToken found = sampler.sample(logits.data(), 4);
  const double logSum = std::log(std::exp(1.0) + std::exp(5.0) + 1 + std::exp(2.0));
  CHECK_EQ(found.token, 2);
  CHECK_NEAR(found.logprob, -logSum, 1e-6, 1e-6);
  CHECK_EQ(found.top[0].token, 1);
  CHECK_NEAR(found.top[0].logprob, 5 - logSum, 1e-6, 1e-6);
}

TEST(token_mask, constraints_win_against_the_least_number_of_new_tokens) {
  SamplingParams params;
  params.minNewTokens = 3;
  params.stopTokens = {1};
  const auto sampleWith = [&](const std::vector<int32_t>& allowed, std::vector<float> logits) {
    Sampler sampler(params, nullptr, 0);
    sampler.constrain(listed(4, allowed));
    return sampler.sample(logits.data(), 4);
  };
  CHECK_EQ(sampleWith({1, 3}, {0, 9, 0, 1}).token, 3);
  CHECK_EQ(sampleWith({1}, {0, -9, 0, 1}).token, 1);
  // Tokens that the model gives no chance are allowed nevertheless, and no others.
  CHECK_EQ(sampleWith({2, 3}, {0, 9, kNever, kNever}).token, 2);
  params.temperature = 1;
  CHECK_EQ(sampleWith({2, 3}, {0, 9, kNever, kNever}).token, 2);
}

TEST(token_mask, constraints_that_allow_nothing_block) {
  Sampler sampler({}, nullptr, 0);
  sampler.constrain(listed(4, {0, 1}));
  sampler.constrain(listed(4, {}, {{0}, {1}}));
  std::vector<float> logits = {1, 2, 3, 4};
  CHECK(sampler.sample(logits.data(), 4).blocked);
}

TEST(token_mask, drafts_end_ahead_of_what_is_not_allowed) {
  Sampler sampler({}, nullptr, 0);
  sampler.constrain(listed(9, {}, {{3, 4}}));
  std::vector<int32_t> draft = {4, 3, 5, 3, 4, 6};
  sampler.keepAllowed(draft, 9);
  CHECK(draft == (std::vector<int32_t>{4, 3, 5, 3}));
  std::vector<int32_t> again = {4};
  sampler.keepAllowed(again, 9);  // the sampler itself has accepted nothing
  CHECK_EQ(again.size(), 1u);
}

// Lets everything come, and throws in the place that it is told.
class Faulty final : public TokenConstraint {
 public:
  Faulty(int fills, int accepts) : fills_(fills), accepts_(accepts) {}
  bool fill(int32_t*) override {
    if (fills_-- == 0) throw Error("ERR_INVALID_ARGUMENT", "it is too much");
    return false;
  }
  void accept(int32_t) override {
    if (accepts_-- == 0) throw std::bad_alloc();
  }
  void rollback(int64_t) override {}
  std::unique_ptr<TokenConstraint> clone() const override { return std::make_unique<Faulty>(*this); }

 private:
  int fills_, accepts_;
};

TEST(token_mask, a_constraint_that_throws_rejects_its_own_sequence_only) {
  TinyModel model(llamaSpec(), DType::kF32, 80);
  const std::vector<int32_t> prompt{1, 2, 3, 1, 2, 3, 1, 2};
  for (const int64_t draftTokens : {0, 4}) {
    EngineOptions options = optionsFor(model, 2, 64, 64);
    options.lookup.draftTokens = draftTokens;
    options.lookup.minMatch = 1;
    options.lookup.maxMatch = 3;
    Harness harness(std::move(options));
    harness.submit(0, prompt, 30);
    const std::pair<int, int> places[] = {{0, -1}, {4, -1}, {-1, 0}, {-1, 3}};
    for (int64_t id = 1; id <= 4; ++id) {
      auto sequence = std::make_unique<Sequence>(id, prompt, 30, SamplingParams{});
      const auto [fills, accepts] = places[id - 1];
      sequence->sampler.constrain(std::make_unique<Faulty>(fills, accepts));
      harness.submit(std::move(sequence));
    }
    for (int64_t id = 1; id <= 4; ++id) {
      const Note note("sequence", id);
      const Harness::Result result = harness.result(id);
      CHECK_EQ(result.code, std::string(id <= 2 ? "ERR_INVALID_ARGUMENT" : "ERR_OUT_OF_MEMORY"));
      CHECK(result.tokens.size() < 30);
    }
    CHECK_EQ(harness.result(0).tokens.size(), 30u);
    harness.stop();
    CHECK_EQ(harness.engine().stats().kvPagesFree, 64);
  }
}

TEST(token_mask, what_has_thrown_allows_nothing_and_says_why) {
  TokenConstraints constraints;
  constraints.add(std::make_unique<Faulty>(1, -1));
  int32_t mask[3] = {-1, -1, -1};
  CHECK(!constraints.fill(mask, 70));
  CHECK(!constraints.problem());
  TokenConstraints copy = constraints;
  for (int i = 0; i < 2; ++i) {
    CHECK(constraints.fill(mask, 70));
    CHECK(mask[0] == 0 && mask[1] == 0 && mask[2] == 0);
  }
  REQUIRE(constraints.problem().has_value());
  CHECK_EQ(std::string(constraints.problem()->what()), std::string("it is too much"));
  CHECK(!copy.problem());
  copy = constraints;
  CHECK(copy.problem().has_value());
}

}  // namespace shardspeed::test
